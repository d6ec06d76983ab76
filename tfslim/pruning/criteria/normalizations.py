"""Brings the scores of different layers to one scale, for a choice among them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from tfslim import errors, registry
from tfslim.pruning.criteria import base

# float64 [channels] of one group -> [channels], in the same order.
Normalization: TypeAlias = Callable[[base.Scores], base.Scores]

NORMALIZATIONS: registry.Registry[Normalization] = registry.Registry("normalization")


@NORMALIZATIONS.register("none")
def none(scores: base.Scores) -> base.Scores:
    """Leaves the scores as they are: right where their unit is the loss."""
    return scores


@NORMALIZATIONS.register("mean")
def mean(scores: base.Scores) -> base.Scores:
    """Divides by the mean: an average channel scores 1 in every layer."""
    return _divide(scores, scores.mean())


@NORMALIZATIONS.register("max")
def maximum(scores: base.Scores) -> base.Scores:
    """Divides by the largest: the best channel scores 1 in every layer."""
    return _divide(scores, scores.max())


@NORMALIZATIONS.register("l2")
def l2(scores: base.Scores) -> base.Scores:
    """Divides by the Euclidean norm.

    Source: Molchanov et al., ICLR 2017, https://arxiv.org/abs/1611.06440.
    """
    return _divide(scores, np.sqrt(np.square(scores).sum()))


@NORMALIZATIONS.register("lamp")
def lamp(scores: base.Scores) -> base.Scores:
    """Divides the square by the sum of the squares that are not smaller.

    The best channel of every layer scores 1, so no layer is emptied, and the ratio
    per layer comes by itself. The paper ranks single weights; here the channels of a
    layer take their place, with `l2_norm` as their magnitude. Equal channels score
    alike (the paper breaks ties), so their order does not matter.

    Source: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR
    2021, https://arxiv.org/abs/2010.07611.
    """
    squares = np.square(_divide(scores, scores.max()))
    order = np.argsort(squares)
    ascending = squares[order]
    # tails[i] is the sum from i on; equal squares share the tail of the first of them.
    tails = np.cumsum(ascending[::-1])[::-1]
    result = np.empty_like(squares)
    result[order] = _divide(ascending, tails[np.searchsorted(ascending, ascending)])
    return result


def _divide(scores: base.Scores, by: base.Scores | np.float64) -> base.Scores:
    if scores.min() < 0:
        raise errors.ConfigError(
            "Scores below zero have no scale to normalize by: the lowest is "
            f"{scores.min():.3g}. Use normalization='none' or another criterion."
        )
    # A layer of zeros stays one.
    return np.divide(scores, by, out=np.zeros_like(scores), where=by > 0)
