"""Cuts off the rarest values at both ends."""

from __future__ import annotations

import numpy as np

from tfslim.quantization.ranges import statistics
from tfslim.quantization.ranges.thresholds import base

_SHARE = 0.9999


def percentile(
    seen: statistics.Histogram, *, share: float = _SHARE
) -> tuple[float, float]:
    """Returns the range between the (1 - share) and the share quantile.

    An end that is 0 or on the other side of 0 stays: zero must be in the range.
    Source: Wu et al., "Integer quantization for deep learning inference", 2020,
    https://arxiv.org/abs/2004.09602, section 4.

    Args:
        seen: the filled histogram.
        share: in (0.5, 1]; 0.9999 cuts one value in 10,000 at each end.
    """
    counts, below = seen.bins()
    total = counts.sum()
    low, high = seen.range
    if not total:
        return low, high
    reached = np.cumsum(counts) / total
    edges = (np.arange(len(counts) + 1) - below) * seen.width
    first = float(_quantile(reached, edges, share=1.0 - share))
    last = float(_quantile(reached, edges, share=share))
    return (max(low, first) if low < 0.0 else low), (
        min(high, last) if high > 0.0 else high
    )


def _quantile(reached: np.ndarray, edges: np.ndarray, *, share: float) -> float:
    """Interpolates within the bin where the counts reach `share`."""
    return float(np.interp(share, np.concatenate([[0.0], reached]), edges))


base.THRESHOLDS.register("percentile")(base.Threshold(statistics.Histogram, percentile))
