"""The range of the least mean squared error."""

from __future__ import annotations

import numpy as np

from tfslim.quantization.ranges import statistics
from tfslim.quantization.ranges.thresholds import base

_LEVELS = 256
# Ends tried on each side of zero.
_CANDIDATES = 128


def mse(seen: statistics.Histogram) -> tuple[float, float]:
    """Returns the range of the least mean squared quantization error.

    Rounding costs step^2 / 12 for each value inside, nothing for zero, which is exact;
    clipping costs the square of the distance to the range's end. Both follow from
    prefix sums over the histogram, so that all pairs of ends are tried at once.
    Source: Banner et al., "Post training 4-bit quantization of convolutional
    networks", NeurIPS 2019, https://arxiv.org/abs/1810.05723, section 3, with the
    histogram in place of a distribution assumed.
    """
    counts, below = seen.bins()
    if not counts.sum():
        return seen.range
    starts = _ends(below)
    stops = _ends(len(counts) - below)
    error = _errors(counts, below, starts=starts, stops=stops)
    best = np.unravel_index(np.argmin(error), error.shape)
    low, high = seen.range
    # The bins' edges lie beyond the extremes by part of a bin.
    return (
        max(low, -float(starts[best[0]]) * seen.width) if low < 0.0 else low,
        min(high, float(stops[best[1]]) * seen.width) if high > 0.0 else high,
    )


def _ends(length: int) -> np.ndarray:
    """Distances from zero to try, in bins, the whole side among them."""
    if not length:
        return np.zeros(1, np.int64)
    tried = np.linspace(0, length, min(_CANDIDATES, length) + 1)[1:]
    return np.unique(np.ceil(tried).astype(np.int64))


def _errors(
    counts: np.ndarray, below: int, *, starts: np.ndarray, stops: np.ndarray
) -> np.ndarray:
    """Sums the squared error of each range [-start, stop], in bins squared."""
    # Everything in bin 0 counts as zero: its values round to it, or are as small.
    rounded = counts.astype(np.float64)
    rounded[below : below + 1] = 0.0
    inside = np.concatenate([[0.0], np.cumsum(rounded)])
    step = (starts[:, None] + stops[None, :]) / (_LEVELS - 1)
    held = inside[below + stops][None, :] - inside[below - starts][:, None]
    clipped_low = _clipping(counts[:below][::-1], starts)
    clipped_high = _clipping(counts[below:], stops)
    return held * step**2 / 12.0 + clipped_low[:, None] + clipped_high[None, :]


def _clipping(counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sums the squared distances to each end of what lies beyond it."""
    centres = np.arange(len(counts)) + 0.5
    moments = [
        np.concatenate([np.cumsum((counts * centres**power)[::-1])[::-1], [0.0]])
        for power in (0, 1, 2)
    ]
    number, first, second = (moment[ends] for moment in moments)
    return second - 2.0 * ends * first + ends**2 * number


base.THRESHOLDS.register("mse")(
    base.Threshold(statistics.Histogram, mse, spares_outputs=True)
)
