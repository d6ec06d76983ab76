"""Distance to the other channels."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("geometric_median")
def geometric_median(kernel: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by its total distance to the other channels.

    A channel close to all others is redundant. Unlike a norm, this does not call a
    channel unimportant for having small weights.

    Source: He et al., "Filter Pruning via Geometric Median for Deep Convolutional
    Neural Networks Acceleration", CVPR 2019, https://arxiv.org/abs/1811.00250.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        channel_axis: axis of `kernel` that counts the channels to score.

    Returns:
        float64 [channels], in the unit of the weights, growing with their number.
    """
    channels = kernel.shape[channel_axis]
    filters = np.moveaxis(kernel, channel_axis, 0).reshape(channels, -1)
    filters = filters.astype(np.float64)
    squared = np.einsum("ij,ij->i", filters, filters)
    # |a - b|^2 = |a|^2 + |b|^2 - 2ab; rounding can make it slightly negative.
    distances = squared[:, None] + squared - 2.0 * (filters @ filters.T)
    np.fill_diagonal(distances, 0.0)
    return np.sqrt(np.maximum(distances, 0.0)).sum(axis=1)
