"""Proximal operators: the thresholds that make weights exactly zero.

prox(w) = argmin_u 1/2 (u - w)' D (u - w) + threshold * R(u), with D = 1 unless said.

Source: Parikh and Boyd, "Proximal Algorithms", 2014, section 6.5,
https://web.stanford.edu/~boyd/papers/pdf/prox_algs.pdf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Enough for float32: the iteration gains more than a digit a step from the first on.
_NEWTON_STEPS = 8


def soft_threshold(values: tf.Tensor, threshold: Any) -> tf.Tensor:
    """Returns sign(w) * max(|w| - threshold, 0), the proximal operator of L1.

    Args:
        values: float tensor of any shape.
        threshold: >= 0, scalar or of the shape of `values`.
    """
    return tf.sign(values) * tf.maximum(tf.abs(values) - threshold, 0.0)


def group_soft_threshold(
    values: tf.Tensor, threshold: Any, *, axes: Sequence[int]
) -> tf.Tensor:
    """Returns each group w times max(1 - sqrt(size) threshold / |w|, 0).

    It is the proximal operator of the group lasso, whose groups weigh the square root
    of their size.

    Args:
        values: float tensor.
        threshold: >= 0, a scalar.
        axes: those that count the groups: a group is all that has the same index on
            them.
    """
    inside, size = _inside(values, axes)
    norm = tf.sqrt(tf.reduce_sum(tf.square(values), inside, keepdims=True))
    return values * tf.maximum(1.0 - tf.math.divide_no_nan(size * threshold, norm), 0.0)


def scaled_group_soft_threshold(
    values: tf.Tensor, threshold: Any, *, axes: Sequence[int], metric: tf.Tensor
) -> tf.Tensor:
    """Returns the group lasso's proximal step in a diagonal metric D.

    With c = sqrt(size) threshold, a group is zero if |D w| <= c. Else it is
    D w / (D + c / r), where its norm r solves the scalar equation

        sum_i (d_i w_i / (d_i r + c))^2 = 1.

    Newton's method on the inverse root of the left side finds it: that function is
    concave and nearly linear, so it comes from below and fast (as for trust regions,
    Nocedal and Wright, "Numerical Optimization", 2006, section 4.3).

    Args:
        values: float tensor.
        threshold: >= 0, a scalar.
        axes: as for `group_soft_threshold`.
        metric: the diagonal of D, > 0, of the shape of `values`.
    """
    inside, size = _inside(values, axes)
    limit = size * threshold
    pull = metric * values
    norm = tf.zeros_like(tf.reduce_sum(values, inside, keepdims=True))
    for _ in range(_NEWTON_STEPS):
        bottom = metric * norm + limit
        part = tf.math.divide_no_nan(pull, bottom)
        total = tf.reduce_sum(tf.square(part), inside, keepdims=True)
        slope = tf.reduce_sum(
            tf.math.divide_no_nan(tf.square(part) * metric, bottom),
            inside,
            keepdims=True,
        )
        # h(r) = total^-1/2 - 1; the step -h / h' is total (sqrt(total) - 1) / slope.
        step = tf.math.divide_no_nan(total * (tf.sqrt(total) - 1.0), slope)
        norm = tf.maximum(norm + step, 0.0)
    lives = tf.sqrt(tf.reduce_sum(tf.square(pull), inside, keepdims=True)) > limit
    shrunk = tf.math.divide_no_nan(pull * norm, metric * norm + limit)
    # Without a threshold (a schedule that ends at 0) there is no equation to solve.
    return tf.where(limit > 0.0, tf.where(lives, shrunk, 0.0), values)


def smallest(
    values: tf.Tensor, share: float, *, axes: Sequence[int] | None
) -> tf.Tensor:
    """Tells which weights, or groups, are the smallest ones.

    Where a penalty counts these alone, the proximal step of the whole moves only them,
    by the same amount.

    Source: Yun et al., "Trimming the l1 Regularizer", ICML 2019,
    https://arxiv.org/abs/1805.07495.

    Args:
        values: float tensor.
        share: how many of all, in (0, 1]; at least one.
        axes: as for `group_soft_threshold`; None: every weight for itself.

    Returns:
        Booleans that broadcast to the shape of `values`.
    """
    magnitude = tf.abs(values)
    if axes is not None:
        inside, _ = _inside(values, axes)
        magnitude = tf.reduce_sum(tf.square(values), inside, keepdims=True)
    every = tf.sort(tf.reshape(magnitude, [-1]))
    count = max(1, round(share * int(every.shape[0])))
    return magnitude <= every[count - 1]


def _inside(values: tf.Tensor, axes: Sequence[int]) -> tuple[list[int], tf.Tensor]:
    """Returns the axes within a group and the root of the size of a group."""
    ndim = len(values.shape)
    outer = {axis % ndim for axis in axes}
    inside = [axis for axis in range(ndim) if axis not in outer]
    size = 1
    for axis in inside:
        size *= values.shape[axis]
    return inside, tf.sqrt(tf.cast(size, values.dtype))
