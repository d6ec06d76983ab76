"""First-order estimate of the loss's change, from weights or from activations."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("taylor")
def taylor(kernel: ir.Array, gradient: ir.Array, *, channel_axis: int) -> base.Scores:
    """Scores a channel by how much the loss changes, to first order, without it.

    |sum of weight * gradient| over the channel's weights. The paper squares the sum;
    the absolute value is in the unit of the loss and orders one batch alike.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR
    2019, https://arxiv.org/abs/1906.10771.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        gradient: float array of the same shape, the mean loss's gradient on one batch.
        channel_axis: axis of both that counts the channels to score.

    Returns:
        float64 [channels], in the unit of the loss.
    """
    return np.abs(base.sum_per_channel(kernel * gradient, channel_axis))


@base.CRITERIA.register("taylor_activation")
def taylor_activation(
    activations: ir.Array, activation_gradients: ir.Array, *, channel_axis: int
) -> base.Scores:
    """Scores a channel by the loss's first-order change when its output is zero.

    The mean over the samples of |mean over the positions of value * gradient|.

    Source: Molchanov et al., "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", ICLR 2017, https://arxiv.org/abs/1611.06440.

    Args:
        activations: float array [batch, ..., channels].
        activation_gradients: the same shape; gradients of the sum, not the mean, of
            the samples' losses, so that the score does not depend on the batch size.
        channel_axis: axis of both that counts the channels; not the first.

    Returns:
        float64 [channels], in the unit of the loss per position.
    """
    products = np.moveaxis(activations * activation_gradients, channel_axis, -1)
    samples, channels = products.shape[0], products.shape[-1]
    per_sample = products.reshape(samples, -1, channels).mean(axis=1, dtype=np.float64)
    return np.abs(per_sample).mean(axis=0)
