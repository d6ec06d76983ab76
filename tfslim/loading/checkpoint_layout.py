"""The weights of `.keras` files of Keras 2.13 and 2.14, under the names of today.

They keep the layers of a model under `_layer_checkpoint_dependencies`, where all others
have `layers`. In both a layer goes by its class, numbered ("dense_1").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import h5py

_OLD, _NEW = "_layer_checkpoint_dependencies", "layers"


def is_old(file: h5py.Group) -> bool:
    """Tells whether a file of weights has the old layout."""
    return _OLD in file and _NEW not in file


def modernize(file: h5py.Group, config: Mapping[str, Any]) -> bool:
    """Renames the groups of an old file, in place; returns whether it was one.

    Args:
        file: the weights, open for writing, or a model's group of them.
        config: of the model, for files that have the layers' own names.
    """
    changed = is_old(file)
    if changed:
        file.move(_OLD, _NEW)
        _by_class(file[_NEW], config)
    layers = file.get(_NEW)
    if isinstance(layers, h5py.Group):
        inner = dict(_classes(config))
        for name, child in list(layers.items()):
            if isinstance(child, h5py.Group):
                changed |= modernize(child, inner.get(name, {}))
    return changed


def _by_class(layers: h5py.Group, config: Mapping[str, Any]) -> None:
    """Renames layers that go by their own names, if any does that fits no class."""
    wanted = _classes(config)
    by_class = {name for name, _ in wanted}
    if set(layers) <= by_class:
        return
    own = {each["config"].get("name", ""): name for name, each in wanted}
    if not set(layers) <= set(own):
        return  # Of a kind that is not known: Keras says what it lacks.
    for name in list(layers):
        layers.move(name, f"~{own[name]}")
    for name in list(layers):
        layers.move(name, name.removeprefix("~"))


def _classes(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the layers of a config, each by its class, numbered as Keras does."""
    inner = config.get("config")
    layers = inner.get("layers", []) if isinstance(inner, Mapping) else []
    taken: dict[str, int] = {}
    found = []
    for layer in layers:
        own = layer.get("config") if isinstance(layer, Mapping) else None
        if not isinstance(own, Mapping):
            continue
        name = _snake_case(str(layer.get("class_name", "")))
        number = taken[name] = taken.get(name, -1) + 1
        found.append((f"{name}_{number}" if number else name, layer))
    return found


def _snake_case(name: str) -> str:
    """Returns a class's name as Keras writes it in files."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
