"""Float ops that a target lacks, said in others that it has."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import targets, tflite
from tfslim.quantization.rules.bounded import bounded
from tfslim.tflite import flatbuffer, reading

_Type = schema.TensorType
# The greatest denominator against the least that INT8 holds apart from 0.
_WIDEST = 64.0
# By how much a denominator may be below all that the samples showed.
_UNSEEN = 2.0


def rewrite(model: bytes, target: targets.Target) -> bytes:
    """Replaces ops that a target lacks by others that compute the same.

    -x and x * x become MUL, a sum of many a chain of ADD, and the 0 and 1 that are made
    of a comparison are chosen by SELECT_V2.

    Args:
        model: the float `.tflite`; returned as it is where there is nothing to do.
        target: where it is to run.
    """
    if target.allows_float and not target.runs:
        return model
    flat = flatbuffer.unpack(model)
    graph = flat.subgraphs[0]
    changed = []
    for op in graph.operators:
        name = reading.op_name(flat.operatorCodes[op.opcodeIndex])[0]
        rule = _RULES.get(name) if target.lacks(name) else None
        changed += rule(flat, op) if rule is not None else [op]
    if changed == list(graph.operators):
        return model
    graph.operators = changed
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(model))


def fixed(model: bytes, target: targets.Target, *, is_sized: bool) -> bytes:
    """Closes the sizes that a file leaves open, for a target that wants them fixed.

    Args:
        model: the float `.tflite`.
        target: where it is to run.
        is_sized: whether samples gave the sizes that the file is written with. If not,
            only an open batch is closed: the rest is anyone's guess.
    """
    content = tflite.read(model)
    open_axes = {
        axis
        for tensor in content.inputs
        for axis, size in enumerate(tensor.shape_signature)
        if size < 0
    }
    is_known = is_sized or open_axes <= {0}
    if not target.runs or not open_axes or not is_known:
        return model
    flat = flatbuffer.unpack(model)
    for tensor in flat.subgraphs[0].tensors:
        tensor.shapeSignature = None
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(model))


def without_floats(
    model: bytes, ranges: Mapping[str, tuple[float, float]], *, target: targets.Target
) -> tuple[bytes, dict[str, tuple[float, float]]]:
    """Says by ranges in INT8 what would need floats; see `bounded`, too.

    x / d of a positive d is made x times 1 / sqrt(d), twice. LiteRT's INT8 kernel of
    DIV (2.3) is wrong where x is a step or two from 0. The first product is the
    geometric mean of x and x / d, which gives its range.

    Args:
        model: the float `.tflite`.
        ranges: tensor name -> (min, max) of its activations.
        target: where it is to run; only one without float needs this.

    Returns:
        The file, and the ranges of all its activations, the new ones included.
    """
    model, found = bounded(model, ranges, target=target)
    if target.allows_float or "DIV" not in {op.name for op in tflite.read(model).ops}:
        return model, found
    flat = flatbuffer.unpack(model)
    graph, changed = flat.subgraphs[0], []
    for op in graph.operators:
        name = reading.op_name(flat.operatorCodes[op.opcodeIndex])[0]
        if name != "DIV":
            changed.append(op)
            continue
        over, below = reading.numbers(op.inputs)
        known = reading.text(graph.tensors[below].name)
        bounds = found.get(known, (0.0, 0.0))
        if not 0.0 < bounds[1] / _WIDEST <= bounds[0]:
            changed.append(op)
            continue
        (given,) = reading.numbers(op.outputs)
        root = _like(flat, below, ending=b";rsqrt")
        once = _like(flat, given, ending=b";once")
        names = [reading.text(graph.tensors[i].name) for i in (over, given, root, once)]
        found[names[2]] = bounds[1] ** -0.5, (bounds[0] / _UNSEEN) ** -0.5
        one = found.get(names[0]) or _ends(flat, over)
        found[names[3]] = _mean(one, found[names[1]])
        changed.append(flatbuffer.operator(flat, "RSQRT", below, root))
        changed.append(_binary(flat, "MUL", inputs=(over, root), outputs=[once]))
        changed.append(_binary(flat, "MUL", inputs=(once, root), outputs=[given]))
        fused = getattr(op.builtinOptions, "fusedActivationFunction", 0)
        changed[-1].builtinOptions.fusedActivationFunction = fused
    graph.operators = changed
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(model)), found


def _mean(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Returns the range of sqrt(x * y), with their sign, for x and y of one sign."""
    low = math.sqrt(min(one[0], 0.0) * min(other[0], 0.0))
    return -low, math.sqrt(max(one[1], 0.0) * max(other[1], 0.0))


def _ends(flat: Any, index: int) -> tuple[float, float]:
    values = flat.buffers[flat.subgraphs[0].tensors[index].buffer].data.view(np.float32)
    return float(values.min()), float(values.max())


def _like(flat: Any, index: int, *, ending: bytes) -> int:
    """Adds a tensor like another; returns its number."""
    tensors = flat.subgraphs[0].tensors
    added = copy.copy(tensors[index])
    added.name, added.buffer = added.name + ending + b"%d" % len(tensors), 0
    tensors.append(added)
    return len(tensors) - 1


def _reads(flat: Any, op: Any, *, kind: int) -> bool:
    tensors = flat.subgraphs[0].tensors
    return all(tensors[i].type == kind for i in reading.numbers(op.inputs) if i >= 0)


def _negated(flat: Any, op: Any) -> list[Any]:
    if not _reads(flat, op, kind=_Type.FLOAT32):
        return [op]
    source = reading.numbers(op.inputs)[0]
    minus = _constant(flat, -1.0, like=source)
    return [_binary(flat, "MUL", inputs=(source, minus), outputs=op.outputs)]


def _squared(flat: Any, op: Any) -> list[Any]:
    if not _reads(flat, op, kind=_Type.FLOAT32):
        return [op]
    source = reading.numbers(op.inputs)[0]
    return [_binary(flat, "MUL", inputs=(source, source), outputs=op.outputs)]


def _summed(flat: Any, op: Any) -> list[Any]:
    inputs = reading.numbers(op.inputs)
    if len(inputs) < 2 or not _reads(flat, op, kind=_Type.FLOAT32):
        return [op]
    graph, (target,) = flat.subgraphs[0], reading.numbers(op.outputs)
    made, total = [], inputs[0]
    for number, other in enumerate(inputs[1:], start=2):
        given = target
        if number < len(inputs):
            tensor = copy.copy(graph.tensors[target])
            given, tensor.buffer = len(graph.tensors), 0
            tensor.name += b";sum%d" % number
            graph.tensors.append(tensor)
        made.append(_binary(flat, "ADD", inputs=(total, other), outputs=[given]))
        total = given
    return made


def _reshaped(flat: Any, op: Any) -> list[Any]:
    (target,) = reading.numbers(op.outputs)
    made = flatbuffer.operator(flat, "RESHAPE", reading.numbers(op.inputs)[0], target)
    made.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    made.builtinOptions = schema.ReshapeOptionsT()
    made.builtinOptions.newShape = list(flat.subgraphs[0].tensors[target].shape)
    return [made]


def _chosen(flat: Any, op: Any) -> list[Any]:
    (target,) = reading.numbers(op.outputs)
    is_real = flat.subgraphs[0].tensors[target].type == _Type.FLOAT32
    if not is_real or not _reads(flat, op, kind=_Type.BOOL):
        return [op]
    made = flatbuffer.operator(flat, "SELECT_V2", 0, target)
    values = [_constant(flat, value, like=target) for value in (1.0, 0.0)]
    made.inputs = [reading.numbers(op.inputs)[0], *values]
    made.builtinOptionsType = schema.BuiltinOptions.SelectV2Options
    made.builtinOptions = schema.SelectV2OptionsT()
    return [made]


_RULES: dict[str, Callable[[Any, Any], list[Any]]] = {
    "NEG": _negated,
    "SQUARE": _squared,
    "ADD_N": _summed,
    "CAST": _chosen,
    "EXPAND_DIMS": _reshaped,
    "SQUEEZE": _reshaped,
}


def _binary(flat: Any, name: str, *, inputs: tuple[int, int], outputs: Any) -> Any:
    (target,) = reading.numbers(outputs)
    made = flatbuffer.operator(flat, name, inputs[0], target)
    made.inputs = list(inputs)
    kind = f"{name.capitalize()}Options"
    made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    made.builtinOptions = getattr(schema, f"{kind}T")()
    return made


def _constant(flat: Any, value: float, *, like: int) -> int:
    """Adds a constant of one value, of the rank of a tensor; returns its number."""
    graph = flat.subgraphs[0]
    number = len(graph.tensors)
    data = np.array([value], np.float32).view(np.uint8)
    tensor = schema.TensorT(
        shape=[1] * len(reading.numbers(graph.tensors[like].shape)),
        type=_Type.FLOAT32,
        buffer=len(flat.buffers),
        name=b"constant%d" % number,
    )
    flat.buffers.append(schema.BufferT(data=data))
    graph.tensors.append(tensor)
    return number
