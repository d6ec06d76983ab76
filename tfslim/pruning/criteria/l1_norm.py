"""Sum of the absolute weights."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("l1_norm")
def l1_norm(kernel: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by the sum of its absolute weights.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017,
    https://arxiv.org/abs/1608.08710.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        channel_axis: axis of `kernel` that counts the channels to score.

    Returns:
        float64 [channels], in the unit of the weights, growing with the kernel's size.
    """
    return base.sum_per_channel(np.abs(kernel), channel_axis)
