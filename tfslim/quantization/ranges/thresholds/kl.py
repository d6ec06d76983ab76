"""The range that loses the least information: KL divergence, or entropy calibration.

Source: Migacz, "8-bit inference with TensorRT", GTC 2017. A candidate range cuts the
histogram: p is the histogram inside with what lies outside added to its end bins, q is
the histogram inside as its quantized levels would show it, each level's count spread
evenly over its bins that p has something in. The range of the least KL(p || q) wins.

Textbook KL is harmful after a ReLU: exact zeros, half of all values, fill bin 0, and q
spreads them over a whole level, so that only narrow ranges look good. Channels that
are constant do the same at other values. `kl` mends it: such atoms are told from their
neighbours and cost nothing as long as they are inside; tensors of one sign have all
256 levels; outputs and tensors with few values keep their true range; and where the
narrowest range wins the search goes on with finer bins.
"""

from __future__ import annotations

import numpy as np

from tfslim.quantization.ranges import statistics
from tfslim.quantization.ranges.thresholds import base

_LEVELS = 256
_TEXTBOOK_LEVELS = 128
# Bins that a search begins with; narrow ranges are searched with up to 4 times more.
_BINS = 2048
_FINER = 4
_MAX_CANDIDATES = 512
# Bins whose median tells what a bin would have without an atom.
_SURROUNDINGS = 9
# With fewer, a bin's count is noise, and the noise is what the search would fit.
_MIN_VALUES = 100 * _BINS


def divergence(
    counts: np.ndarray,
    starts: np.ndarray,
    *,
    stops: np.ndarray,
    levels: int,
    atoms: np.ndarray | None = None,
) -> np.ndarray:
    """Computes KL(p || q) of many candidate ranges at once, in closed form.

    With h the counts, N their sum, level g of the range holding S_g counts in n_g
    bins where p is not 0, W_g the same with the clipped ones, and S the sum of S_g:
    KL = (sum p log p - sum_g W_g log(S_g / n_g)) / N - log N + log S. Prefix sums of
    h, h log h and [h > 0] give every term without a walk over the bins.

    Args:
        counts: int array [bins].
        starts: int array [candidates], the range's first bin.
        stops: int array [candidates], the bin after its last; stop - start >= levels.
        levels: levels of the quantized range, >= 2. Level g begins at bin
            start + floor(g * (stop - start) / levels).
        atoms: int array [bins], counts beside `counts` that lose nothing inside a
            range and are clipped like the others outside.

    Returns:
        float64 array [candidates], in nats; +inf for a range with nothing inside. A
        level that holds clipped values alone counts as holding one of its own:
        without, every cut into a gap would be infinite.
    """
    prefix = _Prefix(counts)
    whole = prefix.counts + (0.0 if atoms is None else _before(atoms))
    width = (stops - starts)[:, None]
    edges = starts[:, None] + np.arange(levels + 1) * width // levels
    inside = np.diff(prefix.counts[edges], axis=1)
    filled = np.diff(prefix.filled[edges], axis=1)
    weight = inside.copy()
    below = whole[starts]
    above = whole[-1] - whole[stops]
    total = inside.sum(axis=1) + below + above
    first, last = prefix.at(starts), prefix.at(stops - 1)
    weight[:, 0] += below
    weight[:, -1] += above
    is_empty = ~inside.any(axis=1)
    np.maximum(inside, weight > 0, out=inside)
    filled[:, 0] += (first == 0) & (below > 0)
    filled[:, -1] += (last == 0) & (above > 0)
    information = (
        prefix.information[stops]
        - prefix.information[starts]
        + _x_log_x(first + below)
        - _x_log_x(first)
        + _x_log_x(last + above)
        - _x_log_x(last)
    )
    # Where nothing is filled, nothing weighs.
    density = np.maximum(inside, 1.0) / np.maximum(filled, 1.0)
    spread = (weight * np.log(density)).sum(axis=1)
    # By the chain rule: the atoms inside are a share of p of which nothing is lost.
    held = np.maximum(inside.sum(axis=1), 1.0)
    result = information - spread - total * np.log(total / held)
    return np.where(is_empty, np.inf, result / whole[-1])


class _Prefix:
    """Sums of all bins before each."""

    def __init__(self, counts: np.ndarray):
        values = counts.astype(np.float64)
        self.counts = _before(values)
        self.filled = _before(values > 0)
        self.information = _before(_x_log_x(values))
        self._values = values

    def at(self, bins: np.ndarray) -> np.ndarray:
        return self._values[bins]


def _before(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.where(x > 0, x, 1.0))


def kl(seen: statistics.Histogram) -> tuple[float, float]:
    """Returns the range of the least KL divergence.

    Tensors of one sign are searched with 256 levels from 0 on, others by their
    absolute values with the 128 levels of a side, and no end goes beyond the extremes.
    Fewer than 100 counted values a bin, or few different ones, as pixels are, keep
    their true range, and so do values that all lie far from 0: a quantized range holds
    0, so their levels are few, and what is cut off falls on a single one.
    """
    low, high = seen.range
    nearest, farthest = max(low, -high), max(high, -low)
    if seen.num_values < _MIN_VALUES or 2 * nearest > farthest:
        return low, high
    counts = _folded(seen)
    atoms = _atoms(counts)
    if 2 * atoms[1:].sum() > counts[1:].sum():
        return low, high
    levels = _LEVELS // 2 if low < 0.0 < high else _LEVELS
    bound = _search(counts - atoms, atoms, levels=levels) * seen.width
    return max(low, -bound), min(high, bound)


def _folded(seen: statistics.Histogram) -> np.ndarray:
    """Returns the histogram of the absolute values."""
    counts, below = seen.bins()
    folded = np.zeros(max(below, len(counts) - below), np.int64)
    folded[: len(counts) - below] += counts[below:]
    folded[:below] += counts[:below][::-1]
    return folded


def _search(counts: np.ndarray, atoms: np.ndarray, *, levels: int) -> int:
    """Searches the end of a range that begins at bin 0; in bins."""
    best = reach = len(counts)
    for merged in (_FINER, _FINER // 2, 1):
        coarse = _merge(counts, merged)
        last = min(len(coarse), -(-reach // merged))
        if last < levels:
            continue
        stops = _candidates(levels, last)
        error = divergence(
            coarse,
            np.zeros_like(stops),
            stops=stops,
            levels=levels,
            atoms=_merge(atoms, merged),
        )
        best = int(stops[np.argmin(error)]) * merged
        if best > 1.25 * levels * merged:
            break
        reach = 2 * best
    return min(best, len(counts))


def _atoms(counts: np.ndarray) -> np.ndarray:
    """Returns what a bin has above its surroundings, where that cannot be chance."""
    reach = _SURROUNDINGS // 2
    # Reflected without the end itself: an atom at zero has no say in its own case.
    padded = np.pad(counts, reach, mode="reflect" if len(counts) > reach else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SURROUNDINGS)
    usual = np.median(windows, axis=1).astype(np.int64)
    is_atom = counts > 2 * usual + 100
    return np.where(is_atom, counts - usual, 0)


def _candidates(first: int, last: int) -> np.ndarray:
    """Whole numbers from first to last, both among them."""
    number = min(last - first + 1, _MAX_CANDIDATES)
    return np.unique(np.linspace(first, last, number).round().astype(np.int64))


def _merge(counts: np.ndarray, number: int) -> np.ndarray:
    """Makes one bin of `number` neighbours."""
    padded = np.pad(counts, (0, -len(counts) % number))
    return padded.reshape(-1, number).sum(axis=1)


def kl_textbook(seen: statistics.Histogram) -> tuple[float, float]:
    """Returns TensorRT's symmetric range: 128 levels of |x|, zeros as they come.

    For comparison with the literature; after ReLU it clips what matters.
    """
    folded = _folded(seen)
    merged = max(1, -(-len(folded) // _BINS))
    coarse = _merge(folded, merged)
    low, high = seen.range
    if len(coarse) < _TEXTBOOK_LEVELS or not coarse.any():
        return low, high
    stops = np.arange(_TEXTBOOK_LEVELS, len(coarse) + 1)
    error = divergence(
        coarse, np.zeros_like(stops), stops=stops, levels=_TEXTBOOK_LEVELS
    )
    bound = float(stops[np.argmin(error)]) * merged * seen.width
    return max(low, -bound), min(high, bound)


base.THRESHOLDS.register("kl")(
    base.Threshold(statistics.Histogram, kl, spares_outputs=True)
)
base.THRESHOLDS.register("entropy")(base.THRESHOLDS.get("kl"))
base.THRESHOLDS.register("kl_textbook")(
    base.Threshold(statistics.Histogram, kl_textbook)
)
