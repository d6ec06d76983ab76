"""What is gathered of one tensor over all samples, in bounded memory."""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np

from tfslim import errors, tflite

# Bins on each side of zero. The width is a power of two, so that between half of
# them and all are in use on the longer side.
_SIDE = 8192
# Elements of a large tensor that a sample adds to the histogram, unless `exact`, and
# about how many of each channel at least. With half as many, few extreme values are too
# few for `kl`, and 20 samples lose 1 dB with `mse` on mini-Xception.
_SAMPLED = 2048
_PER_CHANNEL = 4
# Elements of a sample that decide where counting begins.
_PROBED = 64
# Values that wait to be binned together: the pass over all bins costs as much.
_WAITING = 2 * _SIDE
# Values binned at once, at most: they stay in the processor's cache.
_AT_ONCE = 2**16
# Values from which on a pass over them costs more than a few calls of numpy.
_LARGE = 2**16
# Values that are searched for a zero first.
_BEGINNING = 512
# What the bits of a float32 +inf are as an integer.
_INFINITY = 0x7F800000
_END = float(np.finfo(np.float32).max)
# litert-quantizer's weight of what was seen before, in its own moving average.
_MEMORY = 0.95
# The least width whose inverse is a float32.
_LEAST_EXPONENT = -126


class Extremes:
    """The least and the greatest finite value, and the moving average of both.

    Infinities and the ends of float32 are counted apart: in the padding before a max
    pooling, or in a mask before a softmax, they stand for "nothing".

    Attributes:
        tensor: what it is of.
        is_unbounded: whether there were such below, and above.
        min: +inf as long as nothing was seen.
        max: -inf as long as nothing was seen.
    """

    def __init__(self, tensor: tflite.Tensor):
        """Makes an empty one for `tensor`."""
        self.tensor = tensor
        self.min = math.inf
        self.max = -math.inf
        self.is_unbounded = (False, False)
        self._average: tuple[float, float] | None = None

    def update(self, values: np.ndarray) -> None:
        """Takes in float32 values [n, *shape] of n samples.

        Raises:
            QuantizationError: there is a NaN.
        """
        channels = values.shape[-1] if values.ndim > 1 else 1
        self._take(values.reshape(len(values), -1), channels)

    def _take(self, rows: np.ndarray, channels: int) -> None:
        if not rows.size:
            return
        lows, highs = (ends.tolist() for ends in self._ends(rows))
        ends = zip(lows, highs, strict=True)
        if not all(-_END < low and high < _END for low, high in ends):
            self._take_finite(rows, channels)
            return
        self.min = min(self.min, *lows)
        self.max = max(self.max, *highs)
        least, greatest = self._average or (lows[0], highs[0])
        for low, high in zip(lows, highs, strict=True):
            least = _MEMORY * least + (1.0 - _MEMORY) * low
            greatest = _MEMORY * greatest + (1.0 - _MEMORY) * high
        self._average = least, greatest
        self._keep(rows, channels)

    def _take_finite(self, rows: np.ndarray, channels: int) -> None:
        if np.isnan(rows).any():
            raise errors.QuantizationError(
                f"Tensor '{self.tensor.name}' holds a NaN for a calibration sample. "
                "Look for NaN in the sample, or for a model that overflows."
            )
        below, above = self.is_unbounded
        self.is_unbounded = (
            below or bool((rows <= -_END).any()),
            above or bool((rows >= _END).any()),
        )
        for row in rows:
            self._take(row[np.abs(row) < _END][np.newaxis], channels)

    def _ends(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns each row's least and greatest value; not finite if one is not."""
        if self.min >= 0.0 and rows.size > _LARGE:
            # Read as integers, floats from 0 on keep their order, and all that is
            # negative, infinite or NaN comes after them. So one pass is enough for
            # what a ReLU wrote, if there is a zero at its beginning.
            highs = rows.view(np.uint32).max(axis=1)
            lows = rows[:, :_BEGINNING].min(axis=1)
            if highs.max() < _INFINITY and not lows.any():
                return lows, highs.view(np.float32)
        return rows.min(axis=1), rows.max(axis=1)

    def _keep(self, rows: np.ndarray, channels: int) -> None:
        """Takes in finite values; the extremes know them already."""

    @property
    def range(self) -> tuple[float, float]:
        """(min, max); (0, 0) if nothing finite was seen."""
        return (0.0, 0.0) if self.min > self.max else (self.min, self.max)

    @property
    def average(self) -> tuple[float, float]:
        """The moving average of each sample's (min, max); depends on their order."""
        return self._average or (0.0, 0.0)


class Histogram(Extremes):
    """Counts of a tensor's values in bins [i * width, (i + 1) * width).

    The width is a power of two and doubles when a value does not fit: two bins become
    one, which is exact, so that the result depends on the values alone, not on their
    order or on how samples were batched. Values wait in a second array until they are
    worth a pass over the bins; these two are all, however many samples.

    Of a large tensor every k-th element is counted, k without a common divisor with
    the number of channels, so that all channels count alike, and from a place that
    differs from sample to sample; minimum and maximum are of all elements.
    """

    def __init__(self, tensor: tflite.Tensor, *, exact: bool = False):
        """Makes an empty one for `tensor`; `exact` counts every element."""
        super().__init__(tensor)
        self._exact = exact
        self._exponent: int | None = None
        self._counts = np.zeros(2 * _SIDE, np.int64)
        self._waiting = np.empty(_WAITING, np.float32)
        self._num_waiting = 0

    def _keep(self, rows: np.ndarray, channels: int) -> None:
        stride = 1 if self._exact else _stride(rows.shape[1], channels)
        if stride == 1:
            self._add(rows.reshape(-1))
            return
        for row, start in zip(rows, _starts(rows, stride), strict=True):
            self._add(row[start::stride])

    def _add(self, values: np.ndarray) -> None:
        if self._num_waiting + values.size > _WAITING:
            self._flush()
        if values.size > _WAITING:
            for start in range(0, values.size, _AT_ONCE):
                self._count(values[start : start + _AT_ONCE])
            return
        end = self._num_waiting + values.size
        self._waiting[self._num_waiting : end] = values
        self._num_waiting = end

    def _flush(self) -> None:
        if self._num_waiting:
            self._count(self._waiting[: self._num_waiting])
            self._num_waiting = 0

    def _count(self, values: np.ndarray) -> None:
        largest = max(-self.min, self.max)
        if largest == 0.0:
            self._counts[_SIDE] += values.size
            return
        scale = 1.0 / self._fit(largest)
        places = values * np.float32(scale)
        first = math.floor(min(self.min, 0.0) * scale)
        if first:
            np.floor(places, out=places)
            places -= np.float32(first)
        # By way of int32: numpy turns floats into int64 one by one.
        counts = np.bincount(places.astype(np.int32))
        self._counts[_SIDE + first :][: len(counts)] += counts

    def _fit(self, largest: float) -> float:
        """Widens the bins until `largest` has one; returns their width."""
        # frexp: largest = m * 2^e with m in [0.5, 1), so that bin _SIDE - 1 is enough.
        wanted = math.frexp(largest)[1] - (_SIDE.bit_length() - 1)
        wanted = max(wanted, _LEAST_EXPONENT)
        if self._exponent is None:
            self._exponent = wanted
        while self._exponent < wanted:
            merged = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts[:] = 0
            self._counts[_SIDE // 2 : _SIDE // 2 + _SIDE] = merged
            self._exponent += 1
        return math.ldexp(1.0, self._exponent)

    @property
    def width(self) -> float:
        """The width of a bin, in the tensor's unit."""
        self._flush()
        return math.ldexp(1.0, self._exponent or 0)

    def bins(self) -> tuple[np.ndarray, int]:
        """Returns the counts from the minimum's bin to the maximum's.

        Bins between 0 and the nearer end are there, too, though empty.

        Returns:
            int64 array [bins], and the number of bins below zero: bin i begins at
            (i - number) * `width`.
        """
        (low, high), width = self.range, self.width
        below = min(math.ceil(-min(low, 0.0) / width), _SIDE)
        above = min(math.floor(max(high, 0.0) / width) + 1, _SIDE)
        return self._counts[_SIDE - below : _SIDE + above].copy(), below

    @property
    def num_values(self) -> int:
        """How many elements were counted."""
        self._flush()
        return int(self._counts.sum())

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation, each right to a bin's width."""
        counts, below = self.bins()
        total = counts.sum()
        if not total:
            return 0.0, 0.0
        centres = (np.arange(len(counts)) - below + 0.5) * self.width
        mean = float(counts @ centres / total)
        return mean, math.sqrt(float(counts @ (centres - mean) ** 2 / total))

    @property
    def digest(self) -> str:
        """A short fingerprint of the counts and the width."""
        self._flush()
        seen = hashlib.sha256(self._counts.astype("<i8").tobytes())
        seen.update(str(self._exponent).encode())
        return seen.hexdigest()[:16]


class ChannelExtremes:
    """The least and the greatest value of each element of the last axis.

    Attributes:
        min: array [channels].
        max: array [channels].
    """

    def __init__(self, tensor: tflite.Tensor):
        """Makes an empty one for `tensor`."""
        size = tensor.shape[-1] if tensor.shape else 1
        self.min = np.full(size, np.inf)
        self.max = np.full(size, -np.inf)

    def update(self, values: np.ndarray) -> None:
        """Takes in values [n, *shape]."""
        rows = values.reshape(-1, len(self.min))
        self.min = np.minimum(self.min, rows.min(axis=0))
        self.max = np.maximum(self.max, rows.max(axis=0))


def _starts(rows: np.ndarray, stride: int) -> list[int]:
    """Returns where to begin in each row: by chance, but by what is in it alone."""
    bits = rows.view(np.uint32)[:, :: max(1, rows.shape[1] // _PROBED)]
    starts: list[int] = (bits.sum(axis=1, dtype=np.uint64) % stride).tolist()
    return starts


@functools.lru_cache(1024)
def _stride(size: int, channels: int) -> int:
    stride = max(1, size // max(_SAMPLED, _PER_CHANNEL * channels))
    while math.gcd(stride, channels) > 1:
        stride += 1
    return stride
