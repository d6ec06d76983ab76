"""Ops that move, merge or resample positions and leave each channel to itself."""

from __future__ import annotations

import numpy as np

from tfslim import ops
from tfslim.pruning.rules import base

_GLOBAL = {name for name in ops.keras("pooling") if name.startswith("Global")}


@base.register(
    *ops.keras("pooling", "cropping", "upsampling", "padding") - _GLOBAL,
    "CenterCrop",
    "Resizing",
    "resize",
)
def by_position(call: base.Call) -> base.Wiring:
    """Labels on the channel axis pass; on another they are frozen."""
    vector = call.along(call.channel_axis)
    labels = call.on_axis(vector, call.channel_axis, ndim=len(call.node.shapes[0]))
    return base.Wiring((base.compact(labels),))


@base.register(*_GLOBAL)
def global_pooling(call: base.Call) -> base.Wiring:
    """One number for each channel."""
    vector = call.along(call.channel_axis)
    ndim = len(call.node.shapes[0])
    axis = 1 if ndim == 2 else call.channel_axis
    return base.Wiring((base.compact(call.on_axis(vector, axis, ndim=ndim)),))


@base.register(*ops.keras("reduction"))
def reduction(call: base.Call) -> base.Wiring:
    """Labels pass if the axes that are reduced have none."""
    labels = call.inputs[0]
    axes = tuple(call.layer.config["axis"])
    if any(labels.shape[axis] > 1 for axis in axes):
        call.freeze(labels, "takes its result over the channels")
        labels = np.zeros((1,) * labels.ndim, np.int64)
    if not call.layer.config["keepdims"]:
        labels = np.squeeze(labels, axis=axes)
    return base.Wiring((labels,))


@base.register("pad")
def pad(call: base.Call) -> base.Wiring:
    """Padding of positions lets labels pass; padded channels get their own."""
    labels = call.inputs[0]
    paddings = [list(pair) for pair in call.layer.config["paddings"]]
    padded = [axis for axis, pair in enumerate(paddings) if any(pair)]
    if not set(padded) & set(base.varying(labels)):
        return base.Wiring((labels,))
    axis = base.varying(labels)[0]
    if call.layer.config["mode"] != "constant" or len(base.varying(labels)) > 1:
        call.freeze(labels, "repeats channels")
        return base.Wiring((np.zeros((1,) * labels.ndim, np.int64),))
    before, after = paddings[axis]
    added = call.fresh(before + after, "padding")
    sizes = list(paddings)
    sizes[axis] = [added[:before], added[before:]]
    vector = np.concatenate([added[:before], labels.reshape(-1), added[before:]])
    return base.Wiring(
        (call.on_axis(vector, axis, ndim=labels.ndim),), sizes={"paddings": sizes}
    )
