"""Normalizations: by channel they pass labels, across channels they freeze them."""

from __future__ import annotations

from tfslim.pruning.rules import base


@base.register("BatchNormalization")
def batch_normalization(call: base.Call) -> base.Wiring:
    """Four numbers for each channel."""
    axis = call.layer.config["axis"]
    if not isinstance(axis, int):
        call.freeze(call.inputs[0], "normalizes over several axes")
        return base.Wiring((call.inputs[0],))
    channels = call.along(axis % len(call.shapes[0]))
    return base.Wiring(
        (call.inputs[0],), weights={name: (channels,) for name in call.layer.weights}
    )


@base.register("LayerNormalization", "UnitNormalization", "RMSNormalization")
def layer_normalization(call: base.Call) -> base.Wiring:
    """Its statistics are over the channels and would change with a cut."""
    labels = call.inputs[0]
    axis = call.layer.config.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if any(labels.shape[each] > 1 for each in axes):
        call.freeze(labels, "takes its statistics over the channels")
    # Its weights stand along the normalized axes, which no cut reaches.
    return base.Wiring((labels,))


def cut_layer_normalization(call: base.Call) -> base.Wiring:
    """What the user may ask for: statistics over the channels that stay."""
    labels = call.inputs[0]
    if call.layer.config["axis"] != -1 or base.varying(labels) != [labels.ndim - 1]:
        return layer_normalization(call)
    channels = call.along(labels.ndim - 1)
    weights = {name: (channels,) for name in call.layer.weights}
    return base.Wiring((labels,), weights=weights)


@base.register("GroupNormalization")
def group_normalization(call: base.Call) -> base.Wiring:
    """With as many groups as channels it works channel by channel."""
    axis = call.layer.config["axis"] % len(call.shapes[0])
    channels = call.along(axis)
    if call.layer.config["groups"] not in (-1, len(channels)):
        call.freeze(call.inputs[0], "takes its statistics over groups of channels")
        return base.Wiring((call.inputs[0],))
    sizes = {} if call.layer.config["groups"] == -1 else {"groups": channels}
    return base.Wiring(
        (call.inputs[0],),
        weights={name: (channels,) for name in call.layer.weights},
        sizes=sizes,
    )


@base.register("LayerScale")
def layer_scale(call: base.Call) -> base.Wiring:
    """ConvNeXt's factor for each channel, its only weight."""
    channels = call.along(len(call.shapes[0]) - 1)
    return base.Wiring(
        (call.inputs[0],),
        weights={name: (channels,) for name in call.layer.weights},
        sizes={"projection_dim": channels},
    )
