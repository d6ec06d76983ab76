"""Operations of `keras.ops` in Keras 3 models and the graph's words."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfslim.graph import keras_reader


@dataclasses.dataclass(frozen=True)
class _Operation:
    """How a class of operations says an op of the graph.

    `function` is what builds it; `config` maps an option of the graph to the
    parameter of both, `operands` is the number of tensors it takes.
    """

    op: str
    function: Callable[..., Any]
    config: Mapping[str, str] = dataclasses.field(default_factory=dict)
    operands: int = 1


_REDUCE = {"axis": "axis", "keepdims": "keepdims"}
_OPERATIONS: dict[str, _Operation] = {
    "Add": _Operation("add", ops.add, operands=2),
    "Subtract": _Operation("subtract", ops.subtract, operands=2),
    "Multiply": _Operation("multiply", ops.multiply, operands=2),
    "Divide": _Operation("divide", ops.divide, operands=2),
    "TrueDivide": _Operation("divide", ops.divide, operands=2),
    "Maximum": _Operation("maximum", ops.maximum, operands=2),
    "Minimum": _Operation("minimum", ops.minimum, operands=2),
    "Power": _Operation("power", ops.power, operands=2),
    "Matmul": _Operation("matmul", ops.matmul, operands=2),
    "Mean": _Operation("mean", ops.mean, _REDUCE),
    "Sum": _Operation("sum", ops.sum, _REDUCE),
    "Max": _Operation("max", ops.max, _REDUCE),
    "Min": _Operation("min", ops.min, _REDUCE),
    "Reshape": _Operation("reshape", ops.reshape, {"shape": "newshape"}),
    "Transpose": _Operation("transpose", ops.transpose, {"axes": "axes"}),
    "Concatenate": _Operation("concatenate", ops.concatenate, {"axis": "axis"}),
    "Split": _Operation("split", ops.split, {"axis": "axis"}),
    "Pad": _Operation(
        "pad",
        ops.pad,
        {"paddings": "pad_width", "mode": "mode", "value": "constant_values"},
    ),
    "Clip": _Operation("clip", ops.clip, {"minimum": "x_min", "maximum": "x_max"}),
    "Resize": _Operation(
        "resize",
        ops.image.resize,
        {"size": "size", "interpolation": "interpolation"},
    ),
    "ExpandDims": _Operation("expand_dims", ops.expand_dims, {"axis": "axis"}),
    "Squeeze": _Operation("squeeze", ops.squeeze, {"axis": "axis"}),
    "Cast": _Operation("cast", ops.cast, {"dtype": "dtype"}),
    "Softmax": _Operation("softmax", ops.softmax, {"axis": "axis"}),
    "LeakyRelu": _Operation(
        "leaky_relu", ops.leaky_relu, {"negative_slope": "negative_slope"}
    ),
    "Gelu": _Operation("gelu", ops.gelu, {"approximate": "approximate"}),
    "Abs": _Operation("abs", ops.absolute),
    "Absolute": _Operation("abs", ops.absolute),
    "Negative": _Operation("negative", ops.negative),
    "Square": _Operation("square", ops.square),
    "Sqrt": _Operation("sqrt", ops.sqrt),
    "Rsqrt": _Operation("rsqrt", ops.rsqrt),
    "Exp": _Operation("exp", ops.exp),
    "Log": _Operation("log", ops.log),
    "Erf": _Operation("erf", ops.erf),
    "Tanh": _Operation("tanh", ops.tanh),
    "Relu": _Operation("relu", ops.relu),
    "Relu6": _Operation("relu6", ops.relu6),
    "Sigmoid": _Operation("sigmoid", ops.sigmoid),
    "Silu": _Operation("silu", ops.silu),
    "Elu": _Operation("elu", ops.elu),
    "Selu": _Operation("selu", ops.selu),
    "Softplus": _Operation("softplus", ops.softplus),
    "Softsign": _Operation("softsign", ops.softsign),
    "HardSigmoid": _Operation("hard_sigmoid", ops.hard_sigmoid),
    "HardSilu": _Operation("hard_silu", ops.hard_silu),
}
_BY_OP = {operation.op: operation for operation in _OPERATIONS.values()}
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


def read(call: keras_reader.Call) -> keras_reader.Function | None:
    """Returns a call of an operation in the graph's words, None if it has none."""
    operation = call.layer
    if isinstance(operation, keras.layers.Layer):
        return None
    name = type(operation).__name__
    bound = inspect.signature(operation.call).bind(*call.args, **call.kwargs)
    arguments = list(bound.arguments.values())
    if name == "GetItem":
        return _read_getitem(*arguments)
    known = _OPERATIONS.get(name)
    if known is None or type(operation).__module__.split(".")[:2] != ["keras", "src"]:
        return None
    options = _options(operation)
    options |= dict(list(bound.arguments.items())[known.operands :])
    config = {key: _plain(options.pop(p, None)) for key, p in known.config.items()}
    for key, value in options.items():
        neutral = _NEUTRAL.get(key)
        if value is not None and neutral is not ... and value != neutral:
            return None
    if any(value is _UNKNOWN for value in config.values()):
        return None
    return keras_reader.Function(known.op, tuple(arguments[: known.operands]), config)


def _options(operation: Any) -> dict[str, Any]:
    config = dict(operation.get_config())
    for key in ("name", "dtype") if type(operation).__name__ != "Cast" else ("name",):
        config.pop(key, None)
    if config.get("data_format") in (None, keras.config.image_data_format()):
        config.pop("data_format", None)
    return config


_UNKNOWN = object()


def _plain(value: Any) -> Any:
    """Returns an option as plain data; `_UNKNOWN` for one that is computed."""
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return _UNKNOWN if _UNKNOWN in items else items
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _UNKNOWN


def _read_getitem(tensor: Any, key: Any) -> keras_reader.Function | None:
    entries: list[Any] = []
    for entry in key if isinstance(key, tuple | list) else (key,):
        if isinstance(entry, slice):
            entries.append([entry.start, entry.stop, entry.step])
        elif entry is Ellipsis:
            entries.append("...")
        elif isinstance(entry, int) and not isinstance(entry, bool):
            entries.append(entry)
        else:
            return None
    return keras_reader.Function("getitem", (tensor,), {"key": entries})


def write(
    op: str, name: str, operands: Sequence[Any], config: Mapping[str, Any]
) -> Any:
    """Calls a function of the graph on Keras 3 tensors, under a given name."""
    if op == "hard_sigmoid_legacy":
        scaled = write("multiply", f"{name}_scale", [operands[0], 0.2], {})
        shifted = write("add", f"{name}_shift", [scaled, 0.5], {})
        return write("clip", name, [shifted], {"minimum": 0.0, "maximum": 1.0})
    result = _call(op, operands, config)
    first = result[0] if isinstance(result, list | tuple) else result
    # Keras numbers operations over the whole process; a model needs unique names.
    first._keras_history.operation.name = name
    return result


def _call(op: str, operands: Sequence[Any], config: Mapping[str, Any]) -> Any:
    if op == "getitem":
        return operands[0][
            tuple(slice(*e) if isinstance(e, list) else e for e in config["key"])
        ]
    if op == "split":
        indices = np.cumsum(config["sizes"])[:-1].tolist()
        return ops.split(operands[0], indices, axis=config["axis"])
    if op == "concatenate":
        return ops.concatenate(list(operands), axis=config["axis"])
    operation = _BY_OP[op]
    options = {operation.config[key]: value for key, value in config.items()}
    if op == "squeeze" and len(config["axis"]) == 1:
        options["axis"] = config["axis"][0]
    if op == "reshape":
        return ops.reshape(operands[0], config["shape"])
    if op == "pad" and config["mode"] != "constant":
        del options["constant_values"]  # Only zeros may be named there.
    return operation.function(*operands, **options)
