"""How far one output is from another, column by column.

An output may hold boxes in pixels beside scores in 0..1: one figure over both says
nothing about the scores. So the error of each column (an index of the last axis) is
held against how much that column varies with the input, and the worst one decides.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

# Columns whose spreads differ by more are of unlike units; less than this share of the
# largest spread of its unit is noise that nobody would miss.
UNLIKE = 64.0
MOST_DB = 200.0

# A column with fewer values is not judged for itself.
_FEW = 8
# Nor is one that fewer values than this make up, as a class that occurs once.
_LEAST_EFFECTIVE = 4.0
# Of many columns some are quiet by chance: units of their own are set apart by a gap,
# and are more than a few.
_MANY = 32
_GAP = 4.0
_CLEAR_GAP = 16.0
_LEAST_SHARE = 0.02
# An error of twice what varies in a column, and of a third of all that is in it.
_BELOW_MEAN_DB, _BELOW_ALL_DB = -3.0, 10.0
_LOST_DB = 3.0
# Two levels of an INT8 probability, and one level of INT8 by the column's magnitude.
_PROBABILITY_FLOOR = 1.0 / 128.0
_LEVEL = 1.0 / 256.0
# Share of the samples that are no odd ones.
_USUAL = 0.85
# Elements in float64 at a time.
_BLOCK = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class ColumnErrors:
    """Errors of an output's columns.

    Attributes:
        sqnr_db: of the worst column: the power of what varies in it over that of its
            error, over all samples at once.
        typical_db: the same for most of the samples, so that a few odd ones do not
            decide, and as far as the worst column stands out beyond chance.
        worst_sample_db: of the worst sample, over all columns.
        against_zeros_db: the power of all that is in a column, its mean included, over
            that of its error; of the worst column. Zeros have 0 dB.
        by_column: `sqnr_db` of each column.
        column: number of the worst; None where there is one only.
        dead: columns that vary in the reference and are the same for every input.
        misled: columns that their own mean is nearer to, by far.
        lost: columns whose error is more than half of what varies in them, in power.
        relative_error: largest error by the extent (max - min) of its column; of the
            worst column.
    """

    sqnr_db: float
    typical_db: float
    worst_sample_db: float
    against_zeros_db: float
    by_column: np.ndarray
    column: int | None
    dead: tuple[int, ...]
    misled: tuple[int, ...]
    lost: tuple[int, ...]
    relative_error: float


class Columns:
    """The columns of one output and the scale that errors in each are held against.

    Columns that vary little beside others of the same unit (an ImageNet class that no
    photo shows) are held against a 64th of the largest; those of another unit are not.

    Attributes:
        axis: of the columns: the last one, or the second if that is where unlike
            units stand (boxes and scores in rows, as YOLOv8 has them; channels-first
            maps).
    """

    def __init__(self, truth: np.ndarray, *, alike: bool = False):
        """Measures the reference.

        Args:
            truth: array [samples, ...].
            alike: whether all columns are of one unit, as the logits of classes are.
        """
        truth = np.asarray(truth)
        if truth.ndim < 2:
            truth = truth.reshape(-1, 1)
        if not truth.size:  # As of boxes, of which there may be none.
            truth = np.zeros((1, 1), np.float32)
        finite = np.isfinite(truth)
        self._blind = None if finite.all() else ~finite
        self._raw = truth
        self._truth = truth if self._blind is None else np.where(finite, truth, 0)
        self.axis = truth.ndim - 1
        self._scales = _Scales(self._truth, self.axis, alike=alike)
        if _may_be_rows(truth.shape) and not alike and self._scales.is_one_unit:
            rows = _Scales(self._truth, 1, alike=alike, least_gap=_CLEAR_GAP)
            if not rows.is_one_unit:
                self.axis, self._scales = 1, rows

    def errors(self, found: np.ndarray) -> ColumnErrors:
        """Holds another model's output, of the same shape, against the reference."""
        found = np.asarray(found)
        found = found.reshape(self._truth.shape) if found.size else self._truth
        if self._blind is not None:
            masked = self._raw[self._blind], found[self._blind]
            if not np.array_equal(*masked, equal_nan=True):
                return self._hopeless()
            found = np.where(self._blind, 0, found)
        if not np.isfinite(found).all():
            return self._hopeless()
        return self._measured(found)

    def _hopeless(self) -> ColumnErrors:
        worst = np.full(len(self._scales.power), -MOST_DB)
        return ColumnErrors(
            sqnr_db=-MOST_DB,
            typical_db=-MOST_DB,
            worst_sample_db=-MOST_DB,
            against_zeros_db=-MOST_DB,
            by_column=worst,
            column=_first(worst),
            dead=(),
            misled=(),
            lost=(),
            relative_error=np.inf,
        )

    def _measured(self, found: np.ndarray) -> ColumnErrors:
        scales = self._scales
        noise, largest, still = [], np.zeros(len(scales.power)), None
        first = None
        for truth, other in _blocks(self._truth, found, axis=scales.axis):
            error = np.abs(truth - other)
            noise.append(np.square(error).mean(axis=1))
            largest = np.maximum(largest, error.max(axis=(0, 1), initial=0.0))
            first = other[:1] if first is None else first
            same = (other == first).all(axis=(0, 1))
            still = same if still is None else still & same
        ratios = scales.pooled(np.concatenate(noise))
        means = ratios.mean(axis=0)
        by_column = decibels(means)
        return ColumnErrors(
            sqnr_db=float(by_column.min()),
            typical_db=_typical(ratios),
            worst_sample_db=float(decibels(ratios.mean(axis=1)).min()),
            against_zeros_db=float((by_column + scales.means_db).min()),
            by_column=by_column,
            column=_first(by_column),
            dead=scales.dead(still),
            misled=scales.misled(by_column),
            lost=scales.lost(by_column),
            relative_error=float((largest / scales.extent).max()),
        )


def _may_be_rows(shape: tuple[int, ...]) -> bool:
    """Whether the second axis may hold what others have in the last one."""
    if len(shape) == 4:
        is_square = shape[2] == shape[3] != shape[1]
        return shape[1] > 1 and (is_square or shape[1] < min(shape[2:]))
    return len(shape) == 3


def decibels(ratios: np.ndarray | float) -> np.ndarray:
    """Returns noise by signal in dB, from -200 to 200."""
    with np.errstate(divide="ignore"):
        return np.clip(-10.0 * np.log10(ratios), -MOST_DB, MOST_DB)


def _first(by_column: np.ndarray) -> int | None:
    return int(by_column.argmin()) if len(by_column) > 1 else None


def _typical(ratios: np.ndarray) -> float:
    """Returns the usual samples' dB for the worst column.

    The mean of all samples' dB, or the dB of all but the worst 15% at once if it is
    less: a few odd samples do not decide, but no fifth is given up for the others. Of
    many columns the worst is bad by chance: only what is beyond that counts
    (chi-squared tail of Laurent and Massart, Annals of Statistics 28(5), 2000, lemma
    1).
    """
    by_sample = ratios.mean(axis=1)
    usual = np.argsort(by_sample)[: math.ceil(_USUAL * len(by_sample))]
    by_column = ratios[usual].mean(axis=0)
    mean = float(by_column.mean())
    if mean == 0.0:
        return MOST_DB
    reached = min(float(decibels(by_sample).mean()), float(decibels(mean)))
    part = np.log(len(by_column)) / len(usual)
    chance = 1.0 + 2.0 * np.sqrt(part) + 2.0 * part
    peak = max(1.0, float(by_column.max()) / mean / chance)
    return float(reached - 10.0 * np.log10(peak))


class _Scales:
    """What a reference's columns vary by.

    Attributes:
        axis: of the columns.
        power: for each column the power that noise is held against.
        means_db: for each column how much more power it has with its mean.
        extent: the same as `power` for single errors: the column's max - min.
        is_one_unit: whether no column is of another unit.
    """

    def __init__(
        self, truth: np.ndarray, axis: int, *, alike: bool, least_gap: float = 0.0
    ):
        samples, width = len(truth), truth.shape[axis]
        values = truth.size // max(width, 1)
        if truth.dtype.kind == "b":
            truth = truth.astype(np.uint8)
        # Few values have no spread of their own: the output is one column around 0.
        is_whole = values < _FEW
        self.axis = axis
        if is_whole:
            self._whole(truth, width)
            return
        by_place = values - values // samples >= _FEW
        center = truth.mean(axis=0, dtype=np.float64, keepdims=True)
        if not by_place:
            center = center.mean(
                axis=tuple(a for a in range(truth.ndim) if a != axis), keepdims=True
            )
        (center,) = next(_blocks(center, axis=axis))
        whole, square, fourth = np.zeros(width), np.zeros(width), np.zeros(width)
        low, high = np.full(width, np.inf), np.full(width, -np.inf)
        for (block,) in _blocks(truth, axis=axis):
            low = np.minimum(low, block.min(axis=(0, 1)))
            high = np.maximum(high, block.max(axis=(0, 1)))
            whole += np.square(block).sum(axis=(0, 1))
            block = np.square(block - center)
            square += block.sum(axis=(0, 1))
            fourth += np.square(block).sum(axis=(0, 1))
        freedom = values - (values // samples if by_place else 1)
        spread = np.sqrt(square / freedom)
        self._effective = np.divide(
            np.square(square), fourth, out=np.zeros(width), where=fourth > 0
        )
        largest = np.maximum(np.abs(low), np.abs(high))
        spread[spread < 1e-6 * largest] = 0.0  # The rounding of float32.
        self._settle(spread, low, high, alike, least_gap)
        self.means_db = -decibels(np.maximum(whole / values / self.power, 1.0))

    def _whole(self, truth: np.ndarray, width: int) -> None:
        power = float(np.square(truth, dtype=np.float64).mean()) if truth.size else 0.0
        extent = float(truth.max() - truth.min()) if truth.size else 0.0
        extent = extent or float(np.abs(truth).max(initial=0.0)) or 1.0
        self.power, self.extent = np.full(width, power), np.full(width, extent)
        self.means_db = np.zeros(width)
        self.is_one_unit, self._counts = True, np.zeros(width, bool)
        self._pools = [np.arange(width)]

    def _settle(
        self,
        spread: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        alike: bool,
        least_gap: float,
    ) -> None:
        units = [np.argsort(-spread, kind="stable")]
        if not alike:
            units = _units(spread, low, high=high, least_gap=least_gap)
        self.is_one_unit = len(units) == 1
        floor, extent = np.zeros(len(spread)), high - low
        for unit in units:
            floor[unit] = spread[unit].max() / UNLIKE
            extent[unit] = np.maximum(extent[unit], extent[unit].max() / UNLIKE)
        largest = np.maximum(np.abs(low), np.abs(high))
        floor = np.maximum(floor, largest * _LEVEL)
        extent = np.maximum(extent, largest / UNLIKE)
        is_share = self.is_one_unit and _are_probabilities(low, high)
        if is_share:
            floor = np.maximum(floor, _PROBABILITY_FLOOR)
        if is_share or alike:
            # Values that hardly differ do so by less than float32 can tell.
            extent[:] = max(high.max() - low.min(), largest.max() / UNLIKE)
        self.power = np.square(np.maximum(spread, floor))
        if not self.power.any():  # All zeros.
            self.power[:] = 1e-30
        self.extent = np.where(extent > 0.0, extent, 1.0)
        is_sure = self._effective >= _LEAST_EFFECTIVE
        self._counts = is_sure & (spread >= floor) & (spread > 0.0)
        self._pools = [np.array([column]) for column in np.flatnonzero(is_sure)]
        self._pools += [unit[~is_sure[unit]] for unit in units]
        self._pools = [pool for pool in self._pools if len(pool)]

    def pooled(self, noise: np.ndarray) -> np.ndarray:
        """Returns noise by signal, [samples, columns].

        Columns that say too little for themselves have what they have together.

        Args:
            noise: mean squared error of each sample's columns, [samples, columns].
        """
        ratios = np.empty_like(noise)
        for pool in self._pools:
            signal = max(float(self.power[pool].sum()), 1e-30)
            ratios[:, pool] = noise[:, pool].sum(axis=1, keepdims=True) / signal
        return ratios

    def dead(self, still: np.ndarray | None) -> tuple[int, ...]:
        """Returns the columns that vary here, and not there.

        Args:
            still: for each column whether the other model gives one value for it.
        """
        if still is None:
            return ()
        return tuple(map(int, np.flatnonzero(self._counts & still)))

    def misled(self, by_column: np.ndarray) -> tuple[int, ...]:
        """Returns the columns that their own mean is nearer to than the other model.

        Args:
            by_column: dB of each column.
        """
        is_far = by_column <= _BELOW_MEAN_DB
        is_far &= by_column + self.means_db <= _BELOW_ALL_DB
        return tuple(map(int, np.flatnonzero(self._counts & is_far)))

    def lost(self, by_column: np.ndarray) -> tuple[int, ...]:
        """Returns the columns whose error is more than half of what varies in them.

        Args:
            by_column: dB of each column.
        """
        return tuple(map(int, np.flatnonzero(self._counts & (by_column < _LOST_DB))))


def _are_probabilities(low: np.ndarray, high: np.ndarray) -> bool:
    return bool(low.min() >= 0.0 and high.max() <= 1.0)


def _units(
    spread: np.ndarray, low: np.ndarray, *, high: np.ndarray, least_gap: float
) -> list[np.ndarray]:
    """Parts columns into units, by falling spread.

    Probabilities are one unit, however rare: only what is larger has others below it.
    """
    order = np.argsort(-spread, kind="stable")
    sizes = spread[order]
    gap = max(least_gap, _GAP if len(order) > _MANY else 1.0)
    starts = [0]
    for place in range(1, int(np.count_nonzero(sizes))):
        rest = order[starts[-1] :]
        if _are_probabilities(low[rest], high[rest]):
            break
        if (
            sizes[place] * UNLIKE < sizes[starts[-1]]
            and sizes[place] * gap <= sizes[place - 1]
            and len(order) - place >= _LEAST_SHARE * len(order)
        ):
            starts.append(place)
    return np.split(order, starts[1:])


def _blocks(*arrays: np.ndarray, axis: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields some samples at a time, float64 [samples, places, columns]."""
    count, width = len(arrays[0]), arrays[0].shape[axis]
    step = max(1, _BLOCK * count // max(arrays[0].size, 1))
    places = arrays[0].size // max(count * width, 1)
    for start in range(0, count, step):
        parts = [np.moveaxis(a[start : start + step], axis, -1) for a in arrays]
        yield tuple(p.reshape(len(p), places, width).astype(np.float64) for p in parts)
