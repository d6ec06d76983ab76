"""Ops of TensorFlow that LiteRT lacks, in terms of those that it has.

They are put into a graph before the converter sees it, where it failed without: some
of them it knows in a pattern, such as the Erf of a GELU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import node_def_pb2

# From the inputs of an op, as tensors, and the op itself to what it gives, or None
# where it has options that the formula is not for.
_Formula: TypeAlias = Callable[[list[Any], Any], Any]


def _arcsin(x: list[Any], _: Any) -> Any:
    return tf.atan2(x[0], tf.sqrt((1.0 - x[0]) * (1.0 + x[0])))


def _arccos(x: list[Any], _: Any) -> Any:
    return tf.atan2(tf.sqrt((1.0 - x[0]) * (1.0 + x[0])), x[0])


def _arcsinh(x: list[Any], _: Any) -> Any:
    size = tf.abs(x[0])
    return tf.sign(x[0]) * tf.math.log(size + tf.sqrt(size * size + 1.0))


def _arccosh(x: list[Any], _: Any) -> Any:
    return tf.math.log(x[0] + tf.sqrt((x[0] - 1.0) * (x[0] + 1.0)))


def _arctanh(x: list[Any], _: Any) -> Any:
    return 0.5 * tf.math.log((1.0 + x[0]) / (1.0 - x[0]))


# Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, formula 7.1.26: the
# error is at most 1.5e-7.
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def _erf(x: list[Any], _: Any) -> Any:
    size = tf.abs(x[0])
    t = 1.0 / (1.0 + 0.3275911 * size)
    total = tf.zeros_like(t)
    for factor in reversed(_ERF):
        total = (total + factor) * t
    return tf.sign(x[0]) * (1.0 - total * tf.exp(-size * size))


def _erfc(x: list[Any], op: Any) -> Any:
    return 1.0 - _erf(x, op)


def _cross(x: list[Any], _: Any) -> Any:
    (a, b, c), (d, e, f) = (tf.unstack(each, axis=-1) for each in x)
    return tf.stack([b * f - c * e, c * d - a * f, a * e - b * d], -1)


def _fixed_size(size: Any) -> int | None:
    """Returns a size that is given, or held to one number from both sides."""
    known = tf.get_static_value(size)
    if known is not None:
        return int(known)
    if size.op.type != "Minimum":
        return None
    ends = [tf.get_static_value(each) for each in size.op.inputs]
    most = next((int(end) for end in ends if end is not None), None)
    inner = size.op.inputs[ends.index(None)]
    lows = inner.op.inputs if inner.op.type == "Maximum" else ()
    found = [tf.get_static_value(each) for each in lows]
    least = max((int(value) for value in found if value is not None), default=0)
    return most if most is not None and least >= most else None


def _bincount(x: list[Any], op: Any) -> Any:
    size, weights = _fixed_size(op.inputs[1]), op.inputs[2].shape
    if size is None or weights.num_elements() != 0:
        return None
    ones = tf.one_hot(x[0], size, dtype=op.outputs[0].dtype)
    if op.get_attr("binary_output"):
        return tf.reduce_max(ones, -2)
    return tf.reduce_sum(ones, -2)


def _sorted_in(x: list[Any], op: Any) -> Any:
    """Counts the boundaries [rows, n] below each value [rows, m]."""
    compare = tf.less if op.type == "LowerBound" else tf.less_equal
    below = compare(x[0][:, tf.newaxis, :], x[1][:, :, tf.newaxis])
    return tf.reduce_sum(tf.cast(below, op.outputs[0].dtype), -1)


def _sign_bit(x: list[Any], op: Any) -> Any:
    """The one use of bits in Keras: whether a number is negative."""
    least = np.iinfo(op.inputs[0].dtype.as_numpy_dtype).min
    mask = tf.get_static_value(op.inputs[1])
    if mask is None or mask.size != 1 or mask.item() != least:
        return None
    return tf.where(tf.less(x[0], 0), tf.fill(op.inputs[0].shape, x[0].dtype.min), 0)


def _shifted(x: list[Any], op: Any) -> Any:
    by = tf.get_static_value(op.inputs[1])
    if by is None or (by < 0).any():
        return None
    factor = (2 ** by.astype(np.int64)).astype(by.dtype)
    return x[0] * factor if op.type == "LeftShift" else tf.math.floordiv(x[0], factor)


def _pooled(x: list[Any], op: Any) -> Any:
    """Pools a volume in its planes, and then across them.

    A border is left out of an average along each axis by itself, so means of means are
    the mean.
    """
    if op.get_attr("data_format") != b"NDHWC":
        return None
    pool = tf.nn.max_pool2d if op.type == "MaxPool3D" else tf.nn.avg_pool2d
    (_, *sizes, _), (_, *strides, _) = op.get_attr("ksize"), op.get_attr("strides")
    padding = op.get_attr("padding").decode()
    _, depth, height, width, channels = x[0].shape
    planes = tf.reshape(x[0], (-1, height, width, channels))
    planes = pool(planes, sizes[1:], strides[1:], padding)
    _, height, width, _ = planes.shape
    columns = tf.reshape(planes, (-1, depth, height * width, channels))
    columns = pool(columns, (sizes[0], 1), (strides[0], 1), padding)
    return tf.reshape(columns, (-1, columns.shape[1], height, width, channels))


_FORMULAS: dict[str, _Formula] = {
    "Acos": _arccos,
    "Acosh": _arccosh,
    "Asin": _arcsin,
    "Asinh": _arcsinh,
    "Atan": lambda x, _: tf.atan2(x[0], tf.ones_like(x[0])),
    "Atanh": _arctanh,
    "AvgPool3D": _pooled,
    "BitwiseAnd": _sign_bit,
    "Cosh": lambda x, _: 0.5 * (tf.exp(x[0]) + tf.exp(-x[0])),
    "Cross": _cross,
    "DenseBincount": _bincount,
    "Erf": _erf,
    "Erfc": _erfc,
    "Invert": lambda x, _: -1 - x[0],
    "LeftShift": _shifted,
    "LowerBound": _sorted_in,
    "MaxPool3D": _pooled,
    "RightShift": _shifted,
    "Sinh": lambda x, _: 0.5 * (tf.exp(x[0]) - tf.exp(-x[0])),
    "Tan": lambda x, _: tf.sin(x[0]) / tf.cos(x[0]),
    "UpperBound": _sorted_in,
}


def any_in(traced: Any) -> bool:
    """Tells whether a concrete function has an op that a formula stands for."""
    return any(op.type in _FORMULAS for op in traced.graph.get_operations())


def spelled(
    node: node_def_pb2.NodeDef, graph: tf.Graph
) -> list[node_def_pb2.NodeDef] | None:
    """Returns nodes that give what a node gives, under its name; None to keep it.

    Args:
        node: of the graph.
        graph: where it stands.
    """
    formula = _FORMULAS.get(node.op)
    if formula is None:
        return None
    op = graph.get_operation_by_name(node.name)
    with tf.Graph().as_default() as inner, tf.name_scope(f"{node.name}_formula"):
        given = [tf.compat.v1.placeholder(t.dtype, t.shape) for t in op.inputs]
        result = formula(given, op)
        if result is None:
            return None
        result = tf.identity(result)
    sources = {t.op.name: source for t, source in zip(given, node.input, strict=False)}
    sources[result.op.name] = node.name
    made = []
    for each in inner.as_graph_def().node:
        if each.name in sources and each.op == "Placeholder":
            continue
        for number, source in enumerate(each.input):
            each.input[number] = sources.get(source, source)
        if each.name == result.op.name:
            each.name = node.name
        made.append(each)
    return made
