"""Second-order estimate of the loss's change, by the empirical Fisher information."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("fisher")
def fisher(kernel: ir.Array, gradient: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by half the sum of (weight * gradient)^2.

    At a minimum of the loss the gradient is zero on average and only the second order
    is left; the mean squared gradient stands for the Hessian's diagonal. Batches of
    one sample make it so; larger ones shrink all scores, a little unevenly.

    Source: Theis et al., "Faster gaze prediction with dense networks and Fisher
    pruning", 2018, https://arxiv.org/abs/1801.05787.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        gradient: float array of the same shape, the mean loss's gradient on one batch.
        channel_axis: axis of both that counts the channels to score.

    Returns:
        float64 [channels], in the unit of the loss (nats for a cross-entropy).
    """
    return 0.5 * base.sum_per_channel(np.square(kernel * gradient), channel_axis)
