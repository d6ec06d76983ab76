"""Scale of the normalization that follows."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("bn_scale")
def bn_scale(gamma: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by the absolute scale of its batch normalization.

    Meant for networks trained with an L1 penalty on gamma. It has no score for a
    group of channels without a normalization that has a scale.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network
    Slimming", ICCV 2017, https://arxiv.org/abs/1708.06519.

    Args:
        gamma: float array [channels].
        channel_axis: 0 or -1.

    Returns:
        float64 [channels], in the unit of the normalized activations.
    """
    return base.sum_per_channel(np.abs(gamma), channel_axis)
