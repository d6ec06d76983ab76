"""Keras configs as plain data in the words of Keras 3, and back.

Both Keras serialize the same layer in slightly different words. Here stand the
words that differ; `keras2.py` and `keras3.py` have what only one of them has.
"""

from __future__ import annotations

import collections
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import errors, ops
from tfslim.graph import ir

# Options that only one Keras has, with the value at which they do nothing.
_NEUTRAL: dict[str, Any] = {
    "antialias": False,
    "autocast": True,
    "crop_to_aspect_ratio": False,
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "fill_mode": "constant",
    "fill_value": 0.0,
    "groups": 1,
    "oov_method": "floormod",
    "pad_to_aspect_ratio": False,
    "renorm": False,
    "renorm_momentum": 0.99,
    "rms_scaling": False,
    "softmax_robust_masking": False,
    "synchronized": False,
    "time_major": False,
    "use_gate": False,
    "value_range": [0, 255],
    "zero_output_for_mask": False,
}
# Options of one Keras that say how it computes, not what.
_INTERNAL = {"implementation", "rng_type"}
# tf_keras repeats options of Conv2D in its subclasses, where they have no effect.
_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_IDLE = {
    "Conv2DTranspose": ("groups",),
    **dict.fromkeys(ops.keras("depthwise"), ("filters", *_KERNEL)),
    **dict.fromkeys(ops.keras("separable"), _KERNEL),
}
# Packages whose classes both Keras find by the name alone.
_KERAS_PACKAGES = {"keras", "tf_keras", "tensorflow"}
# Initializer options that Keras 3 has and tf_keras has not.
_INITIALIZER_EXTRAS = ("input_axes", "output_axes")


def plain(value: Any) -> Any:
    """Returns a config value as numbers, strings, lists and dicts.

    Wrapped containers are unwrapped, tuples become lists, 0-d arrays become
    numbers, and serialized objects of Keras lose the module they stand in.
    """
    if isinstance(value, Mapping):
        value = {str(key): plain(item) for key, item in value.items()}
        return _without_module(value) if "class_name" in value else value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic) or (
        isinstance(value, np.ndarray) and value.ndim == 0
    ):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def _without_module(value: dict[str, Any]) -> dict[str, Any]:
    package = str(value.get("module") or "keras").partition(".")[0]
    if package not in _KERAS_PACKAGES or not isinstance(value.get("config"), dict):
        return value  # The user's own class: only its full address finds it.
    config = {
        key: item
        for key, item in value["config"].items()
        if not (key in _INITIALIZER_EXTRAS and item is None)
    }
    return {"class_name": value["class_name"], "config": config}


def dtype_name(value: Any) -> Any:
    """Returns a dtype policy as its name: `float32`, `mixed_bfloat16`."""
    if isinstance(value, dict):
        return value["config"].get("name", value)
    return value


def normalized_axis(axis: Any, ndim: int) -> Any:
    """Returns one axis as an int, several as a list; the last one is -1."""
    if isinstance(axis, list | tuple):
        if len(axis) == 1:
            return normalized_axis(axis[0], ndim)
        # Both Keras sort them, so that all must count from the same end.
        return [item % ndim for item in axis]
    return -1 if axis in (-1, ndim - 1) else axis


def accepted(
    name: str, op: str, *, config: Mapping[str, Any], layer_class: type, keras: str
) -> dict[str, Any]:
    """Returns the options that `layer_class` takes.

    Raises:
        GraphError: an option that has an effect does not exist in that Keras.
    """
    known = _parameters(layer_class)
    idle = _IDLE.get(op, ())
    result = {}
    for key, value in config.items():
        if key in known:
            result[key] = value
        elif not (
            value is None or key in (*idle, *_INTERNAL) or _NEUTRAL.get(key) == value
        ):
            raise errors.GraphError(
                f"Layer '{name}' ({op}) has {key}={value!r}, which {keras} does not "
                "know. Write the model in the Keras it came from, or build the layer "
                f"without {key}."
            )
    return result


def _parameters(layer_class: type) -> set[str]:
    """Returns the options of a class and, as long as it passes them on, its bases."""
    known: set[str] = set()
    for base in layer_class.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        known |= {p.name for p in parameters if p.kind != p.VAR_KEYWORD}
        if all(p.kind != p.VAR_KEYWORD for p in parameters):
            break
    return known


# Options that are fields of `ir.Layer`, or that only say how the layer was made.
_FIELDS = (
    "name",
    "trainable",
    "batch_input_shape",
    "batch_shape",
    "build_config",
    # MultiHeadAttention's, known again once the layer is called.
    "query_shape",
    "key_shape",
    "value_shape",
)
# Of a function of Keras 3 that has no config: what holds the function itself.
OPERATION = "operation"
# Options that hold a layer: its own config is not translated.
_HOLDERS = ("layer", "layers", "backward_layer", "cell", "cells")


def without_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config without what stands elsewhere in the graph."""
    return {key: value for key, value in config.items() if key not in _FIELDS}


def of_lambda(layer: Any) -> dict[str, Any]:
    """Returns the config of a Lambda layer: its function itself, not its code."""
    return {
        "dtype": dtype_name(plain(layer.get_config()["dtype"])),
        "function": layer.function,
        "output_shape": layer._output_shape,
        "mask": getattr(layer, "mask", None),
        "arguments": dict(layer.arguments or {}),
    }


def is_wrapper(layer: Any) -> bool:
    """Tells whether a layer is made of other layers (TimeDistributed, RNN)."""
    return any(key in _HOLDERS for key in layer.get_config())


def native(layer: Any) -> dict[str, Any]:
    """Returns the untouched config of a layer outside the vocabulary.

    Raises:
        GraphError: the layer cannot tell its config.
    """
    kind = type(layer).__name__
    failure: Exception
    try:
        return without_fields(layer.get_config())
    except NotImplementedError as error:
        why = "has no get_config, so it cannot be rebuilt. Add get_config to the class"
        failure = error
    except Exception as error:
        why = f"fails in get_config: {errors.first_line(error)} Mend the class"
        failure = error
    raise errors.GraphError(
        f"Layer '{layer.name}' ({kind}) {why}, or export the functional part of the "
        "model."
    ) from failure


def made_from(layer_class: Any, config: Mapping[str, Any], *, name: str) -> Any:
    """Builds a layer from its own config, which stays as it is.

    `from_config` may take out of the containers in it what it has used:
    StackedRNNCells does with its cells, so that a second layer could not be built.
    """
    if OPERATION in config:
        again = object.__new__(layer_class)  # A plain copy would be a saved one.
        again.__dict__.update(
            vars(config[OPERATION]), name=name, _inbound_nodes=[], _outbound_nodes=[]
        )
        return again
    copied = ir.map_leaves(lambda leaf: leaf, {**config, "name": name})
    return layer_class.from_config(copied)


def named_weights(weights: Sequence[Any]) -> dict[str, Any]:
    """Names the variables of a layer, in the layer's own order.

    A variable goes by the last part of its own name (`kernel`), numbered where a layer
    made of layers has several of it. Their paths do not do: they depend on how many
    layers the process has made, and on where the layer was built.
    """
    paths = [str(getattr(w, "path", w.name)).removesuffix(":0") for w in weights]
    leaves = [path.rsplit("/", 1)[-1] for path in paths]
    if any(map(_is_automatic, leaves)):
        leaves = ["weight"] * len(leaves)
    names: dict[str, Any] = {}
    taken: collections.Counter[str] = collections.Counter()
    for leaf, weight in zip(leaves, weights, strict=True):
        name = f"{leaf}_{taken[leaf]}" if taken[leaf] else leaf
        taken[leaf] += 1
        # A user's own `kernel_1` beside two `kernel`s.
        names[name if name not in names else f"weight_{len(names)}"] = weight
    return names


def _is_automatic(name: str) -> bool:
    """Tells whether Keras 3 made up the name, numbered over the whole process."""
    return re.fullmatch(r"[Vv]ariable(_\d+)?", name) is not None
