"""Second-order estimate of the loss's change, by the Hessian's diagonal."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("hessian_diag")
def hessian_diag(
    kernel: ir.Array, hessian: ir.Array, *, channel_axis: int
) -> base.Scores:
    """Scores a channel by half the sum of hessian * weight^2: its saliency.

    Negative curvature, which an estimate or a half-trained network has, counts as
    none: it does not mean that the loss falls when the channel goes.

    Source: LeCun et al., "Optimal Brain Damage", NIPS 1989,
    https://proceedings.neurips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        hessian: float array of the same shape, the diagonal of the loss's Hessian,
            e.g. Hutchinson's estimate: the mean of v * (Hv) over random signs v.
        channel_axis: axis of both that counts the channels to score.

    Returns:
        float64 [channels], in the unit of the loss.
    """
    saliency = np.maximum(hessian, 0.0) * np.square(kernel)
    return 0.5 * base.sum_per_channel(saliency, channel_axis)
