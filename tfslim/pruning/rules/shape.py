"""Ops that only rearrange elements: what they do to a tensor they do to its labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.labels import FIXED, LabelArray
from tfslim.pruning.rules import base


@base.register("Flatten")
def flatten(call: base.Call) -> base.Wiring:
    """Flattening goes through positions first, so labels repeat."""
    labels, shape = call.inputs[0], call.shapes[0]
    if call.layer.config.get("data_format") == "channels_first" and len(shape) > 2:
        labels = np.moveaxis(labels, 1, -1)
        shape = (shape[0], *shape[2:], shape[1])
    return base.Wiring(
        (_reshaped(call, labels, source=shape, target=call.node.shapes[0]),)
    )


@base.register("Reshape")
def reshape_layer(call: base.Call) -> base.Wiring:
    """Labels are reshaped; `target_shape` leaves out the batch."""
    labels = _reshaped(
        call, call.inputs[0], source=call.shapes[0], target=call.node.shapes[0]
    )
    sizes = _sizes(labels, call.node.shapes[0])[1:]
    return base.Wiring((labels,), sizes={"target_shape": sizes})


@base.register("reshape")
def reshape(call: base.Call) -> base.Wiring:
    """Labels are reshaped; `shape` has the batch."""
    labels = _reshaped(
        call, call.inputs[0], source=call.shapes[0], target=call.node.shapes[0]
    )
    return base.Wiring((labels,), sizes={"shape": _sizes(labels, call.node.shapes[0])})


def _sizes(labels: LabelArray, shape: ir.Shape) -> list[Any]:
    """Returns the sizes of a tensor: labels to count on an axis that has them."""
    return [
        labels.reshape(-1)
        if labels.shape[axis] > 1
        else -1
        if shape[axis] is None
        else shape[axis]
        for axis in range(len(shape))
    ]


def _reshaped(
    call: base.Call, labels: LabelArray, *, source: ir.Shape, target: ir.Shape
) -> LabelArray:
    fixed = np.full((1,) * len(target), FIXED)
    if not base.varying(labels):
        return fixed
    if base.varying(labels) == [labels.ndim - 1] and source[-1] == target[-1]:
        return call.on_axis(labels.reshape(-1), len(target) - 1, ndim=len(target))
    if source[0] != target[0] or None in (*source[1:], *target[1:]):
        call.freeze(labels, "reshapes channels and axes of unknown size into another")
        return fixed
    whole = np.broadcast_to(labels, (1, *(size or 1 for size in source[1:])))
    return base.separate(call, whole.reshape((1, *(size or 1 for size in target[1:]))))


@base.register("Permute")
def permute(call: base.Call) -> base.Wiring:
    """Axes in another order, the batch first."""
    return base.Wiring((np.transpose(call.inputs[0], [0, *call.layer.config["dims"]]),))


@base.register("transpose")
def transpose(call: base.Call) -> base.Wiring:
    """Axes in another order."""
    return base.Wiring((np.transpose(call.inputs[0], call.layer.config["axes"]),))


@base.register("expand_dims")
def expand_dims(call: base.Call) -> base.Wiring:
    """A new axis."""
    return base.Wiring((np.expand_dims(call.inputs[0], call.layer.config["axis"]),))


@base.register("squeeze")
def squeeze(call: base.Call) -> base.Wiring:
    """Axes of length 1 leave."""
    axes = tuple(call.layer.config["axis"])
    return base.Wiring((np.squeeze(call.inputs[0], axis=axes),))


@base.register("RepeatVector")
def repeat_vector(call: base.Call) -> base.Wiring:
    """[channels] becomes [n, channels]."""
    return base.Wiring((np.expand_dims(call.inputs[0], 1),))


@base.register("split")
def split(call: base.Call) -> base.Wiring:
    """Each part takes its labels; the sizes follow the cut."""
    labels, axis = call.inputs[0], call.layer.config["axis"]
    if labels.shape[axis] == 1:
        return base.Wiring((labels,) * len(call.node.shapes))
    parts = np.split(labels, np.cumsum(call.layer.config["sizes"])[:-1], axis=axis)
    return base.Wiring(tuple(parts), sizes={"sizes": [p.reshape(-1) for p in parts]})


@base.register("getitem")
def getitem(call: base.Call) -> base.Wiring:
    """A slice takes the labels of its range; other picks of channels freeze them."""
    labels = call.inputs[0]
    key = [list(e) if isinstance(e, list) else e for e in call.layer.config["key"]]
    for axis in base.varying(labels):
        if not isinstance(key[axis], list) or key[axis][2] not in (None, 1):
            call.freeze(labels, "picks single channels")
            labels = np.full((1,) * labels.ndim, FIXED)
            break
    index: list[Any] = []
    for axis, entry in enumerate(key):
        if labels.shape[axis] == 1:
            index.append(slice(None) if isinstance(entry, list) else 0)
            continue
        start, stop, _ = slice(*entry).indices(labels.shape[axis])
        index.append(slice(start, stop))
        vector = labels.reshape(-1)
        key[axis] = [vector[:start], vector[:stop], None]
    return base.Wiring((labels[tuple(index)],), sizes={"key": key})
