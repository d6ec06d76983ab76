"""Importance by the sum of absolute weights."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("l1_norm")
def l1_norm(kernel: ir.Array, *, channel_axis: int) -> ir.Array:
    """Scores a channel by the sum of its kernel's absolute weights.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017,
    https://arxiv.org/abs/1608.08710.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        channel_axis: axis of `kernel` that counts the channels to score.

    Returns:
        float64 array [channels], in the unit of the weights.
    """
    others = tuple(a for a in range(kernel.ndim) if a != channel_axis % kernel.ndim)
    return np.asarray(np.abs(kernel).sum(axis=others, dtype=np.float64))
