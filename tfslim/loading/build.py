"""From a config that was checked to a model, with the Keras that it belongs to."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tfslim import errors, ops

_LOOKUPS = ops.keras("vocabulary")


class _Bounded(list[Any]):
    """Layers of a network, which can be gone through so often and no more.

    tf_keras goes through them until every node is made, at least one each time; for a
    network that has a node which cannot be made, that is for ever.
    """

    def __init__(self, layers: list[Any]):
        super().__init__(layers)
        nodes = (layer.get("inbound_nodes") or () for layer in layers)
        self._passes = 10 + len(layers) + sum(map(len, nodes))

    def __iter__(self) -> Iterator[Any]:
        self._passes -= 1
        if self._passes < 0:
            raise ValueError("its layers wait for inputs that none of them gives")
        return super().__iter__()


def from_archive(keras: Any, config: Any, *, objects: Mapping[str, Any]) -> Any:
    """Builds the model of a `.keras` file from its config, which stays as it is."""
    library = _library(keras)
    with library.ObjectSharingScope():
        model = keras.saving.deserialize_keras_object(
            _bounded(copy.deepcopy(config)), dict(objects), safe_mode=True
        )
    return _require_model(model)


def from_legacy(
    keras: Any, config: Any, *, objects: Mapping[str, Any], is_trusted: bool = False
) -> Any:
    """Builds the model of an `.h5` file or SavedModel from its config.

    Raises:
        ConfigError: a vocabulary that only `adapt` knew: neither holds that.
    """
    if not is_trusted:
        _require_vocabularies(config)
    text = json.dumps(config)
    with _library(keras).SafeModeScope(safe_mode=not is_trusted):
        if keras.__name__ == "keras":
            legacy = "keras.src.legacy.saving"
            options = importlib.import_module(f"{legacy}.saving_options")
            utils = importlib.import_module(f"{legacy}.saving_utils")
            decoded = importlib.import_module(f"{legacy}.json_utils").decode(text)
            with options.keras_option_scope(use_legacy_config=True):
                return _require_model(utils.model_from_config(decoded, dict(objects)))
        layers = importlib.import_module("tf_keras.src.layers.serialization")
        layers.populate_deserializable_objects()
        decoded = importlib.import_module(
            "tf_keras.src.saving.legacy.saved_model.json_utils"
        ).decode_and_deserialize(
            text, module_objects=layers.LOCAL.ALL_OBJECTS, custom_objects=objects
        )
        return _require_model(layers.deserialize(_bounded(decoded), dict(objects)))


def _require_model(value: Any) -> Any:
    if not hasattr(value, "load_weights"):
        raise ValueError(f"it holds a {type(value).__name__}, no model")
    return value


def finish(model: Any) -> None:
    """Works out what layers of tf_keras learned by `adapt` from what was read."""
    for part in getattr(model, "submodules", ()):
        if hasattr(part, "finalize_state") and type(part).__name__ not in _LOOKUPS:
            part.finalize_state()


def _require_vocabularies(value: Any) -> None:
    if isinstance(value, dict):
        config = value.get("config")
        if value.get("class_name") in _LOOKUPS and isinstance(config, dict):
            if config.get("vocabulary") is None:
                raise errors.ConfigError(
                    f"Layer {config.get('name')!r} learned its vocabulary by adapt(), "
                    "and this format does not keep it. Save the model as .keras."
                )
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _require_vocabularies(part)


def _library(keras: Any) -> Any:
    return importlib.import_module(f"{keras.__name__}.src.saving.serialization_lib")


def _bounded(value: Any) -> Any:
    """Returns a config whose networks cannot keep tf_keras busy for ever."""
    if isinstance(value, dict):
        value = {key: _bounded(part) for key, part in value.items()}
        layers = value.get("layers")
        if isinstance(layers, list) and all(isinstance(part, dict) for part in layers):
            value["layers"] = _Bounded(layers)
        return value
    if isinstance(value, list | tuple):
        return type(value)(_bounded(part) for part in value)
    return value
