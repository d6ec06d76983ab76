"""Ops that work on every element by itself, or on every channel by itself."""

from __future__ import annotations

import numpy as np

from tfslim import ops
from tfslim.pruning.labels import LabelArray
from tfslim.pruning.rules import base


def activate(call: base.Call, labels: LabelArray) -> LabelArray:
    """Freezes labels whose layer ends in an activation that compares channels."""
    activation = call.layer.config.get("activation") or "linear"
    named = isinstance(activation, str)
    if not named or activation not in ops.keras("elementwise"):
        name = activation if named else "a function of the user"
        call.freeze(labels, f"ends in {name}, which may compare channels")
    return labels


@base.register(*ops.keras("elementwise", "idle") - ops.keras("activation"))
def elementwise(call: base.Call) -> base.Wiring:
    """Labels pass."""
    return base.Wiring((call.inputs[0],))


@base.register("Activation")
def activation(call: base.Call) -> base.Wiring:
    """Labels pass, unless the activation compares channels."""
    return base.Wiring((activate(call, call.inputs[0]),))


@base.register("Rescaling")
def rescaling(call: base.Call) -> base.Wiring:
    """Labels pass where scale and offset are one number each."""
    if isinstance(call.layer.config["scale"], list) or isinstance(
        call.layer.config["offset"], list
    ):
        call.freeze(call.inputs[0], "has a number for each channel")
    return base.Wiring((call.inputs[0],))


@base.register("softmax", "Softmax")
def softmax(call: base.Call) -> base.Wiring:
    """A softmax compares all positions of its axis."""
    labels = call.inputs[0]
    axis = call.layer.config.get("axis", -1)
    for each in axis if isinstance(axis, list) else [axis]:
        if labels.shape[each] > 1:
            call.freeze(labels, "compares channels")
    return base.Wiring((labels,))


@base.register("PReLU")
def prelu(call: base.Call) -> base.Wiring:
    """PReLU's slopes `alpha` have the input's axes, batch left out; 1 where shared."""
    alpha = call.layer.weights["alpha"]
    labels = call.inputs[0]
    axes = tuple(
        labels.reshape(-1) if size > 1 and base.varying(labels) == [axis] else None
        for axis, size in enumerate(alpha.shape, start=1)
    )
    return base.Wiring((labels,), weights={"alpha": axes})


@base.register("Normalization")
def input_normalization(call: base.Call) -> base.Wiring:
    """Adapted statistics per channel: the layer stands at the input and stays."""
    if np.any(call.inputs[0]):
        call.freeze(call.inputs[0], "has statistics for each channel")
    return base.Wiring((call.inputs[0],))
