"""Layers that are made of layers, in words that both Keras can build them from.

Read from one Keras and written to the same, a wrapper (Bidirectional, TimeDistributed,
RNN with its cells) keeps its own serialized config. Crossing to the other Keras, its
inner layers become plain data like all others: `{"op": "LSTM", "config": {...}}`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tfslim import errors
from tfslim.graph import ir, keras_config, keras_reader

_HOLDERS = ("layer", "backward_layer", "cell", "cells")
# Options of the wrapper that repeat those of the layer in it.
_REPEATED = ("time_major",)


def portable(layer: ir.Layer, dialect: keras_reader.Dialect, *, ndim: int) -> ir.Layer:
    """Returns a wrapper with its inner layers as plain data, other layers as they are.

    Args:
        layer: read from a model of the dialect's Keras.
        dialect: where that Keras keeps what is read.
        ndim: the rank of what the layer is called on.
    """
    native_class: Any = layer.keras_class
    known = native_class is not None and dialect.class_of(layer.op) is native_class
    if not known or not any(key in _HOLDERS for key in layer.config):
        return layer
    try:
        native = keras_config.made_from(native_class, layer.config, name=layer.name)
        described = _describe(native, dialect, ndim=ndim)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise errors.GraphError(
            f"Layer '{layer.name}' ({layer.op}) holds a layer that only its own Keras "
            f"can build: {errors.first_line(error)} Keep the model in that Keras."
        ) from error
    return dataclasses.replace(layer, config=described["config"], keras_class=None)


def _describe(
    native: Any, dialect: keras_reader.Dialect, *, ndim: int
) -> dict[str, Any]:
    kind: Any = type(native)
    op = str(kind.__name__)
    if dialect.class_of(op) is not kind:
        raise ValueError(f"{op} is no layer of Keras.")
    inner = _inner(native)
    if not inner:
        config = dialect.layer_config(native, ndim)
        return {"op": op, "config": {**config, "name": native.name}}
    config = {
        key: keras_config.dtype_name(value) if key == "dtype" else value
        for key, value in keras_config.plain(native.get_config()).items()
        if key not in (*_HOLDERS, *_REPEATED)
    }
    inside = ndim - 1 if op == "TimeDistributed" else ndim
    for key, value in inner.items():
        config[key] = (
            [_describe(each, dialect, ndim=inside) for each in value]
            if isinstance(value, list | tuple)
            else _describe(value, dialect, ndim=inside)
        )
    return {"op": op, "config": keras_config.without_fields(config)}


def _inner(native: Any) -> dict[str, Any]:
    """Returns the layers that a wrapper is made of, by the options that take them."""
    config = native.get_config()
    found = {key: getattr(native, key, None) for key in _HOLDERS if key in config}
    if hasattr(native, "forward_layer"):
        found = {"layer": native.forward_layer, "backward_layer": native.backward_layer}
    return {key: value for key, value in found.items() if value is not None}


def built(config: Mapping[str, Any], build: Callable[[str, Any, str], Any]) -> Any:
    """Returns a wrapper's options with its inner layers built.

    Args:
        config: as `portable` leaves it.
        build: from op, options and name to a layer.
    """

    def make(value: Any) -> Any:
        if isinstance(value, list):
            return [make(each) for each in value]
        if isinstance(value, Mapping) and set(value) == {"op", "config"}:
            options = dict(built(value["config"], build))
            name = options.pop("name", None) or value["op"].lower()
            return build(value["op"], options, name)
        return value

    return {
        key: make(value) if key in _HOLDERS else value for key, value in config.items()
    }
