"""TensorFlow functions in tf_keras models (`TFOpLambda`) and the graph's words."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src.layers.core.tf_op_layer import SlicingOpLambda, TFOpLambda

from tfslim.graph import ir, keras_functions


@dataclasses.dataclass(frozen=True)
class _Symbol:
    """How a TensorFlow function says an op of the graph.

    `operands` are the parameters that take tensors; `config` maps an option of the
    graph to the parameter. A call with any other parameter set is not understood.
    """

    op: str
    operands: tuple[str, ...]
    config: Mapping[str, str] = dataclasses.field(default_factory=dict)


_XY = ("x", "y")
_REDUCE = {"axis": "axis", "keepdims": "keepdims"}
_SYMBOLS: dict[str, _Symbol] = {
    "__operators__.add": _Symbol("add", _XY),
    "__operators__.truediv": _Symbol("divide", _XY),
    "math.truediv": _Symbol("divide", _XY),
    "math.pow": _Symbol("power", _XY),
    **{
        f"math.{name}": _Symbol(name, _XY)
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")
    },
    "linalg.matmul": _Symbol("matmul", ("a", "b")),
    **{
        f"math.reduce_{name}": _Symbol(name, ("input_tensor",), _REDUCE)
        for name in ("mean", "sum", "max", "min")
    },
    "reshape": _Symbol("reshape", ("tensor",), {"shape": "shape"}),
    "transpose": _Symbol("transpose", ("a",), {"axes": "perm"}),
    "concat": _Symbol("concatenate", ("values",), {"axis": "axis"}),
    "split": _Symbol(
        "split", ("value",), {"sizes": "num_or_size_splits", "axis": "axis"}
    ),
    "pad": _Symbol(
        "pad",
        ("tensor",),
        {"paddings": "paddings", "mode": "mode", "value": "constant_values"},
    ),
    "clip_by_value": _Symbol(
        "clip", ("t",), {"minimum": "clip_value_min", "maximum": "clip_value_max"}
    ),
    "image.resize": _Symbol(
        "resize", ("images",), {"size": "size", "interpolation": "method"}
    ),
    "expand_dims": _Symbol("expand_dims", ("input",), {"axis": "axis"}),
    "squeeze": _Symbol("squeeze", ("input",), {"axis": "axis"}),
    "cast": _Symbol("cast", ("x",), {"dtype": "dtype"}),
    "nn.softmax": _Symbol("softmax", ("logits",), {"axis": "axis"}),
    "nn.leaky_relu": _Symbol("leaky_relu", ("features",), {"negative_slope": "alpha"}),
    "nn.gelu": _Symbol("gelu", ("features",), {"approximate": "approximate"}),
}
_SYMBOLS |= {
    f"nn.{name}": _Symbol(name, ("features",))
    for name in ("elu", "relu", "relu6", "selu", "silu", "softplus", "softsign")
}
_SYMBOLS["math.softplus"] = _SYMBOLS["nn.softplus"]
_SYMBOLS |= {
    f"math.{name}": _Symbol(name, ("x",))
    for name in ("abs exp erf log negative rsqrt sigmoid sqrt square tanh".split())
}
_SYMBOLS |= {f"nn.{name}": _SYMBOLS[f"math.{name}"] for name in ("sigmoid", "tanh")}
# Function of the graph -> TensorFlow's: of several, the last.
_TF = {
    symbol.op: operator.attrgetter(name)(tf)
    for name, symbol in _SYMBOLS.items()
    if not name.startswith("__operators__.")
}


def read(call: keras_functions.Call) -> keras_functions.Function | None:
    """Returns a call of a `TFOpLambda` in the graph's words, None if it has none."""
    if isinstance(call.layer, SlicingOpLambda):
        if call.layer.symbol != "__operators__.getitem":
            return None
        return keras_functions.getitem(*call.args)
    if not isinstance(call.layer, TFOpLambda):
        return None
    name = call.layer.symbol
    # TensorFlow 2 calls some functions of TensorFlow 1; only this one differs.
    if name != "compat.v1.image.resize":
        name = name.removeprefix("compat.v1.")
    symbol = _SYMBOLS.get(name)
    if symbol is None:
        return None
    bound = inspect.signature(call.layer.function).bind(*call.args, **call.kwargs)
    defaults = inspect.signature(call.layer.function).parameters
    known = {*symbol.operands, *symbol.config.values(), "name"}
    for name, value in bound.arguments.items():
        if name not in known and value != defaults[name].default:
            return None
    bound.apply_defaults()
    config = {key: bound.arguments[p] for key, p in symbol.config.items()}
    operands = tuple(bound.arguments[name] for name in symbol.operands)
    return keras_functions.function(
        symbol.op, operands, config=ir.map_leaves(_plain, config)
    )


def _plain(value: Any) -> Any:
    """Returns TensorFlow's types and tensors as data, and all else as it is."""
    if isinstance(value, tf.DType):
        return value.name
    return np.asarray(value) if isinstance(value, tf.Tensor | tf.Variable) else value


def write(
    op: str, name: str, *, operands: Sequence[Any], config: Mapping[str, Any]
) -> Any:
    """Calls a function of the graph on tf_keras tensors, under a given layer name.

    Raises:
        KeyError: TensorFlow has no such function.
    """
    if op in _COMPOSED:
        return _COMPOSED[op](name, operands, config)
    if op == "getitem":
        layer = SlicingOpLambda(tf.__operators__.getitem, name=name)
        return layer(*operands, _serializable(config["key"]))
    arguments, options = _arguments(op, operands, config=config)
    return TFOpLambda(_TF[op], name=name)(*arguments, **options)


def compute(op: str, operands: Sequence[Any], *, config: Mapping[str, Any]) -> Any:
    """Applies a function of the graph to tensors that have values.

    Raises:
        KeyError: TensorFlow has no such function.
    """
    if op == "hard_sigmoid":
        return tf.nn.relu6(operands[0] + 3.0) * (1 / 6)
    if op == "hard_silu":
        return operands[0] * (tf.nn.relu6(operands[0] + 3.0) * (1 / 6))
    if op == "hard_sigmoid_legacy":
        return tf_keras.activations.hard_sigmoid(operands[0])
    if op == "getitem":
        return operands[0][_slices(config["key"])]
    arguments, options = _arguments(op, operands, config=config)
    return _TF[op](*arguments, **options)


def _serializable(key: Sequence[Any]) -> tuple[Any, ...]:
    """Returns a key as tf_keras records it: a `slice` cannot be saved."""
    names = ("start", "stop", "step")
    return tuple(
        dict(zip(names, e, strict=True)) if isinstance(e, list) else e for e in key
    )


def _slices(key: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(slice(*e) if isinstance(e, list) else e for e in key)


def _arguments(
    op: str, operands: Sequence[Any], *, config: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    symbol = next(s for s in _SYMBOLS.values() if s.op == op)
    options = {symbol.config[key]: value for key, value in config.items()}
    if op == "pad":
        options["mode"] = options["mode"].upper()
    return ([list(operands)] if op == "concatenate" else operands), options


def _hard_sigmoid(name: str, operands: Sequence[Any], config: Mapping[str, Any]) -> Any:
    shifted = write("add", f"{name}_shift", operands=[operands[0], 3.0], config={})
    return write(
        "multiply",
        name,
        operands=[
            write("relu6", f"{name}_relu6", operands=[shifted], config={}),
            1 / 6,
        ],
        config={},
    )


def _hard_silu(name: str, operands: Sequence[Any], config: Mapping[str, Any]) -> Any:
    gate = _hard_sigmoid(f"{name}_gate", operands, config)
    return write("multiply", name, operands=[operands[0], gate], config={})


def _hard_sigmoid_legacy(
    name: str, operands: Sequence[Any], config: Mapping[str, Any]
) -> Any:
    return TFOpLambda(tf_keras.activations.hard_sigmoid, name=name)(operands[0])


_COMPOSED = {
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "hard_sigmoid_legacy": _hard_sigmoid_legacy,
}
