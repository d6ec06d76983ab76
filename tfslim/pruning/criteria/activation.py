"""What the channels answer to real samples."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("apoz")
def apoz(activations: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by the share of its values that are above zero.

    This is 1 - APoZ, the average percentage of zeros after a ReLU. Times the number
    of values it is the activation count; a channel that never fires scores 0.

    Source: Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach towards
    Efficient Deep Architectures", 2016, https://arxiv.org/abs/1607.03250.

    Args:
        activations: float array [batch, ..., channels] after the ReLU.
        channel_axis: axis of `activations` that counts the channels.

    Returns:
        float64 [channels], in [0, 1].
    """
    return _mean(activations > 0, channel_axis)


@base.CRITERIA.register("mean_activation")
def mean_activation(activations: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by its mean absolute value.

    Source: Molchanov et al., "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", ICLR 2017, https://arxiv.org/abs/1611.06440. The absolute
    value is for activation functions that go below zero.

    Args:
        activations: float array [batch, ..., channels] after the activation function.
        channel_axis: axis of `activations` that counts the channels.

    Returns:
        float64 [channels], in the unit of the activations.
    """
    return _mean(np.abs(activations), channel_axis)


def _mean(values: ir.Array, channel_axis: int) -> base.Scores:
    positions = values.size // values.shape[channel_axis]
    return base.sum_per_channel(values, channel_axis) / positions
