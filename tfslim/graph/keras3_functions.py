"""Operations of `keras.ops` in Keras 3 models and the graph's words."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfslim import ops as table
from tfslim.graph import keras_functions

# Function of the graph -> its options -> what the operation and the function that
# makes it call them.
_OPTIONS: dict[str, dict[str, str]] = {
    **{op: {"axis": "axis", "keepdims": "keepdims"} for op in table.keras("reduction")},
    **{op: {"axis": "axis"} for op in ("concatenate", "split", "squeeze", "softmax")},
    "cast": {"dtype": "dtype"},
    "clip": {"minimum": "x_min", "maximum": "x_max"},
    "expand_dims": {"axis": "axis"},
    "gelu": {"approximate": "approximate"},
    "leaky_relu": {"negative_slope": "negative_slope"},
    "pad": {"paddings": "pad_width", "mode": "mode", "value": "constant_values"},
    "reshape": {"shape": "newshape"},
    "resize": {"size": "size", "interpolation": "interpolation"},
    "transpose": {"axes": "axes"},
}
# Class of an operation -> function of the graph.
_OPERATIONS = {
    **{op.title().replace("_", ""): op for op in table.keras("function")},
    "Absolute": "abs",
    "TrueDivide": "divide",
}
_TWO_OPERANDS = table.keras("binary") | {"matmul"}
# Options that change nothing at these values.
_NEUTRAL = {
    "alpha": 1.0,
    "antialias": False,
    "crop_to_aspect_ratio": False,
    "fill_mode": "constant",
    "fill_value": 0.0,
    "indices_or_sections": ...,  # Follows from the shapes.
    "pad_to_aspect_ratio": False,
}


def read(call: keras_functions.Call) -> keras_functions.Function | None:
    """Returns a call of an operation in the graph's words, None if it has none."""
    operation = call.layer
    if isinstance(operation, keras.layers.Layer):
        return None
    name = type(operation).__name__
    bound = inspect.signature(operation.call).bind(*call.args, **call.kwargs)
    arguments = list(bound.arguments.values())
    if name == "GetItem":
        return keras_functions.getitem(*arguments)
    op = _OPERATIONS.get(name)
    if op is None or type(operation).__module__.split(".")[:2] != ["keras", "src"]:
        return None
    options = _options(operation)
    operands = 2 if op in _TWO_OPERANDS else 1
    options |= dict(list(bound.arguments.items())[operands:])
    config = {key: options.pop(p, None) for key, p in _OPTIONS.get(op, {}).items()}
    for key, value in options.items():
        neutral = _NEUTRAL.get(key)
        if value is not None and neutral is not ... and value != neutral:
            return None
    return keras_functions.function(op, arguments[:operands], config=config)


def _options(operation: Any) -> dict[str, Any]:
    config = dict(operation.get_config())
    for key in ("name", "dtype") if type(operation).__name__ != "Cast" else ("name",):
        config.pop(key, None)
    if config.get("data_format") in (None, keras.config.image_data_format()):
        config.pop("data_format", None)
    return config


def write(
    op: str, name: str, *, operands: Sequence[Any], config: Mapping[str, Any]
) -> Any:
    """Calls a function of the graph on Keras 3 tensors, under a given name."""
    if op == "hard_sigmoid_legacy":
        scaled = write(
            "multiply", f"{name}_scale", operands=[operands[0], 0.2], config={}
        )
        shifted = write("add", f"{name}_shift", operands=[scaled, 0.5], config={})
        return write(
            "clip", name, operands=[shifted], config={"minimum": 0.0, "maximum": 1.0}
        )
    result = _call(op, operands, config=config)
    first = result[0] if isinstance(result, list | tuple) else result
    # Keras numbers operations over the whole process; a model needs unique names.
    first._keras_history.operation.name = name
    return result


def _call(op: str, operands: Sequence[Any], *, config: Mapping[str, Any]) -> Any:
    if op == "getitem":
        return operands[0][
            tuple(slice(*e) if isinstance(e, list) else e for e in config["key"])
        ]
    if op == "split":
        indices = np.cumsum(config["sizes"])[:-1].tolist()
        return ops.split(operands[0], indices, axis=config["axis"])
    if op == "concatenate":
        return ops.concatenate(list(operands), axis=config["axis"])
    options = {_OPTIONS[op][key]: value for key, value in config.items()}
    if op == "squeeze" and len(config["axis"]) == 1:
        options["axis"] = config["axis"][0]
    if op == "reshape":
        return ops.reshape(operands[0], config["shape"])
    if op == "pad" and config["mode"] != "constant":
        del options["constant_values"]  # Only zeros may be named there.
    function = ops.image.resize if op == "resize" else getattr(ops, op)
    return function(*operands, **options)
