"""Euclidean norm of the weights."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("l2_norm")
def l2_norm(kernel: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by the root of the sum of its squared weights.

    Source: He et al., "Soft Filter Pruning for Accelerating Deep Convolutional Neural
    Networks", IJCAI 2018, https://arxiv.org/abs/1808.06866.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        channel_axis: axis of `kernel` that counts the channels to score.

    Returns:
        float64 [channels], in the unit of the weights.
    """
    return np.sqrt(base.sum_per_channel(np.square(kernel), channel_axis))
