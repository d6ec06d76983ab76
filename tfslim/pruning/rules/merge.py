"""Ops of several tensors: arithmetic unites labels, concatenation joins them."""

from __future__ import annotations

import numpy as np

from tfslim import ops
from tfslim.graph import ir
from tfslim.pruning.labels import FIXED, LabelArray
from tfslim.pruning.rules import base


@base.register(*ops.keras("binary"))
def binary(call: base.Call) -> base.Wiring:
    """Arithmetic that broadcasts as in numpy: axes are aligned at the end."""
    ndim = max(labels.ndim for labels in call.inputs)
    pairs = [
        ((1,) * (ndim - len(shape)) + tuple(shape), _padded(labels, ndim, at=0))
        for shape, labels in zip(call.shapes, call.inputs, strict=True)
    ]
    return base.Wiring((_united(call, pairs),))


@base.register("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")
@base.register("CustomScaleLayer")
def merge_layer(call: base.Call) -> base.Wiring:
    """Arithmetic of Keras's layers: missing axes are put in after the batch."""
    ndim = max(labels.ndim for labels in call.inputs)
    pairs = [
        (
            (shape[0], *(1,) * (ndim - len(shape)), *shape[1:]),
            _padded(labels, ndim, at=1),
        )
        for shape, labels in zip(call.shapes, call.inputs, strict=True)
    ]
    return base.Wiring((_united(call, pairs),))


def _padded(labels: LabelArray, ndim: int, *, at: int) -> LabelArray:
    missing = (1,) * (ndim - labels.ndim)
    return labels.reshape(labels.shape[:at] + missing + labels.shape[at:])


def _united(call: base.Call, operands: list[tuple[ir.Shape, LabelArray]]) -> LabelArray:
    """Unites labels of tensors that broadcast against each other.

    A tensor that is 1 long where others have channels (the gate of one channel, a
    constant) is spread over them and ties nothing. One that is as long but has no
    labels there freezes theirs.
    """
    axes = sorted({a for _, labels in operands for a in base.varying(labels)})
    if len(axes) > 1:
        for _, labels in operands:
            call.freeze(labels, "meets channels on different axes")
        return np.full((1,) * operands[0][1].ndim, FIXED)
    if not axes:
        return operands[0][1]
    whole = [labels for shape, labels in operands if shape[axes[0]] != 1]
    result = max(whole, key=lambda labels: labels.size)
    for labels in whole:
        call.unite(labels, result)
    return result


@base.register("Concatenate", "concatenate")
def concatenate(call: base.Call) -> base.Wiring:
    """Labels follow each other on the axis; those of another axis are united."""
    axis = call.layer.config["axis"] % len(call.shapes[0])
    if any(base.varying(labels) not in ([], [axis]) for labels in call.inputs):
        return base.Wiring((_stacked(call, axis),))
    sizes = [shape[axis] for shape in call.shapes]
    if None in sizes or not any(labels.size > 1 for labels in call.inputs):
        return base.Wiring((call.inputs[0],))
    vectors = [call.along(axis, number) for number in range(len(call.inputs))]
    return base.Wiring(
        (call.on_axis(np.concatenate(vectors), axis, ndim=len(call.shapes[0])),)
    )


def _stacked(call: base.Call, axis: int) -> LabelArray:
    """Tensors joined along positions: their channels on another axis are the same."""
    pairs = [
        ((*shape[:axis], None, *shape[axis + 1 :]), labels)
        for shape, labels in zip(call.shapes, call.inputs, strict=True)
    ]
    if any(labels.shape[axis] > 1 for labels in call.inputs):
        for labels in call.inputs:
            call.freeze(labels, "meets channels on different axes")
        return np.full((1,) * len(call.shapes[0]), FIXED)
    return _united(call, pairs)
