"""Cross-layer equalization of pairs of layers, whatever holds their weights.

Source: Nagel et al., "Data-free quantization through weight equalization and bias
correction", ICCV 2019, https://arxiv.org/abs/1906.04721, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

# What holds the weights of all layers; pairs change it.
W = TypeVar("W", contravariant=True)

_ROUNDS = 20
_CLOSE = 1e-3
# A factor beyond is no help to 8 bits and an end to float precision.
_MOST = 1e4


class ScalablePair(Protocol[W]):
    """Two layers, the second of which reads the channels that the first makes."""

    @property
    def channels(self) -> int:
        """How many channels they share."""
        ...

    def first_size(self, weights: W) -> np.ndarray:
        """Returns the largest weight that makes each channel [channels]."""
        ...

    def second_size(self, weights: W) -> np.ndarray:
        """Returns the largest weight that reads each channel [channels]."""
        ...

    def scale(self, weights: W, factor: np.ndarray) -> None:
        """Divides the channels by `factor` in the first, multiplies in the second."""
        ...


def balance(
    pairs: Sequence[ScalablePair[W]],
    weights: W,
    *,
    measured: Sequence[np.ndarray | None] = (),
) -> list[np.ndarray]:
    """Scales channels until every pair is even.

    Args:
        pairs: of all layers; a layer may be in two of them.
        weights: of all layers, changed in place.
        measured: for each pair the channels' sizes, None to take the first's weights.

    Returns:
        What the channels of each pair were divided by.
    """
    measured = measured or [None] * len(pairs)
    totals = [np.ones(pair.channels) for pair in pairs]
    for _ in range(_ROUNDS if pairs else 0):
        largest = 0.0
        for pair, total, size in zip(pairs, totals, measured, strict=True):
            first = pair.first_size(weights) if size is None else size / total
            factor = equalizing_factor(first, pair.second_size(weights))
            pair.scale(weights, factor)
            total *= factor
            largest = max(largest, float(np.abs(np.log(factor)).max()))
        if largest < _CLOSE:
            break
    return totals


def equalizing_factor(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns what to divide the first layer by, so that both sizes are equal."""
    alive = (first > 0) & (second > 0)
    factor = np.ones(len(first))
    factor[alive] = np.sqrt(first[alive] / second[alive])
    if not alive.any():
        return factor
    # One factor for all channels changes nothing; the median stays as it was.
    factor[alive] /= np.median(factor[alive])
    return np.clip(factor, 1.0 / _MOST, _MOST)
