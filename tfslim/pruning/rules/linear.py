"""Convolutions and dense layers: they end the labels of inputs and begin new ones."""

from __future__ import annotations

import numpy as np

from tfslim import ops
from tfslim.pruning.labels import FIXED, LabelArray
from tfslim.pruning.rules import base, elementwise


@base.register(*ops.keras("convolution"))
def convolution(call: base.Call) -> base.Wiring:
    """Conv [*kernel, in / groups, out]; with groups = in each channel by itself."""
    inside = call.along(call.channel_axis)
    filters = call.layer.weights["kernel"].shape[-1]
    groups = call.layer.config.get("groups", 1)
    if groups == 1:
        return _linear(call, inside, out=call.fresh(filters), size="filters")
    if groups == call.layer.weights["kernel"].shape[-2] * groups == len(inside):
        return _grouped_depthwise(call, inside, multiplier=filters // groups)
    # Every group keeps as many channels as the others: equal places are tied.
    rows = inside.reshape(groups, -1)
    columns = call.fresh(filters).reshape(groups, -1)
    call.unite(rows, rows[:1])
    call.unite(columns, columns[:1])
    return _linear(call, rows[0], out=columns.reshape(-1), size="filters")


@base.register(*ops.keras("transposed"))
def transposed_convolution(call: base.Call) -> base.Wiring:
    """Conv transposed [*kernel, out, in]."""
    out = call.fresh(call.layer.weights["kernel"].shape[-2])
    return _linear(
        call, call.along(call.channel_axis), out=out, size="filters", swapped=True
    )


@base.register("Dense")
def dense(call: base.Call) -> base.Wiring:
    """Dense [in, out] on the last axis."""
    inside = call.along(len(call.shapes[0]) - 1)
    return _linear(
        call,
        inside,
        out=call.fresh(call.layer.weights["kernel"].shape[1]),
        size="units",
    )


def _linear(
    call: base.Call,
    inside: LabelArray,
    *,
    out: LabelArray,
    size: str,
    swapped: bool = False,
) -> base.Wiring:
    ndim = call.layer.weights["kernel"].ndim
    ends = (out, inside) if swapped else (inside, out)
    return base.Wiring(
        outputs=(_outputs(call, out),),
        weights={"kernel": (None,) * (ndim - 2) + ends, "bias": (out,)},
        sums={"kernel": ndim - 1 if swapped else ndim - 2},
        sizes={size: out},
    )


def _outputs(call: base.Call, out: LabelArray) -> LabelArray:
    ndim = len(call.node.shapes[0])
    axis = call.channel_axis if call.layer.op != "Dense" else ndim - 1
    return elementwise.activate(call, call.on_axis(out, axis, ndim=ndim))


def _grouped_depthwise(
    call: base.Call, inside: LabelArray, *, multiplier: int
) -> base.Wiring:
    out = np.repeat(inside, multiplier)
    spatial = (None,) * (call.layer.weights["kernel"].ndim - 1)
    return base.Wiring(
        outputs=(_outputs(call, out),),
        weights={"kernel": (*spatial, out), "bias": (out,)},
        sizes={"filters": out, "groups": inside},
    )


@base.register("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_convolution(call: base.Call) -> base.Wiring:
    """Depthwise conv [*kernel, channels, multiplier]: channel by channel."""
    inside = call.along(call.channel_axis)
    kernel = call.layer.weights["depthwise_kernel"]
    out = np.repeat(inside, kernel.shape[-1])
    spatial = (None,) * (kernel.ndim - 2)
    return base.Wiring(
        outputs=(_outputs(call, out),),
        weights={"depthwise_kernel": (*spatial, inside, None), "bias": (out,)},
    )


@base.register("SeparableConv1D", "SeparableConv2D")
def separable_convolution(call: base.Call) -> base.Wiring:
    """Depthwise [*kernel, in, multiplier], pointwise [1, 1, in * multiplier, out]."""
    inside = call.along(call.channel_axis)
    depthwise = call.layer.weights["depthwise_kernel"]
    pointwise = call.layer.weights["pointwise_kernel"]
    between = np.repeat(inside, depthwise.shape[-1])
    out = call.fresh(pointwise.shape[-1])
    spatial = (None,) * (depthwise.ndim - 2)
    return base.Wiring(
        outputs=(_outputs(call, out),),
        weights={
            "depthwise_kernel": (*spatial, inside, None),
            "pointwise_kernel": (*spatial, between, out),
            "bias": (out,),
        },
        sums={"pointwise_kernel": pointwise.ndim - 2},
        sizes={"filters": out},
    )


@base.register("Constant")
def constant(call: base.Call) -> base.Wiring:
    """An array in the model's arithmetic: its last axis is cut as others need it."""
    value = call.layer.weights["value"]
    if value.ndim == 0 or value.shape[-1] == 1:
        return base.Wiring((np.full((1,) * value.ndim, FIXED),))
    out = call.fresh(value.shape[-1])
    axes = (None,) * (value.ndim - 1)
    return base.Wiring(
        outputs=(call.on_axis(out, value.ndim - 1, ndim=value.ndim),),
        weights={"value": (*axes, out)},
    )


@base.register("Input")
def source(call: base.Call) -> base.Wiring:
    """What comes from outside stays as it is."""
    return base.Wiring(tuple(np.full((1,) * len(s), FIXED) for s in call.node.shapes))
