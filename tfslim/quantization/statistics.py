"""What is gathered of one tensor over all samples, in bounded memory."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from tfslim import errors, tflite

# Bins on each side of zero. The width is a power of two, so that between half of
# them and all are in use on the longer side.
_SIDE = 8192
# Elements of a tensor that a sample adds to the histogram, unless `exact`.
_SAMPLED = 4096
# litert-quantizer's weight of what was seen before, in its own moving average.
_MEMORY = 0.95
# The least width whose inverse is a float32.
_LEAST_EXPONENT = -126


class Extremes:
    """The least and the greatest finite value, and the moving average of both.

    Infinities are passed over: a -inf in the padding before a max pooling stands for
    "nothing", and saturates rightly.

    Attributes:
        tensor: what it is of.
        min: +inf as long as nothing was seen.
        max: -inf as long as nothing was seen.
    """

    def __init__(self, tensor: tflite.Tensor):
        """Makes an empty one for `tensor`."""
        self.tensor = tensor
        self.min = math.inf
        self.max = -math.inf
        self._average: tuple[float, float] | None = None

    def update(self, values: np.ndarray) -> None:
        """Takes in one sample's values.

        Raises:
            QuantizationError: there is a NaN.
        """
        if values.size:
            self._widen(float(values.min()), float(values.max()), values)

    def _widen(self, low: float, high: float, values: np.ndarray) -> np.ndarray:
        """Takes in one sample's extremes and returns its finite values, flat."""
        values = values.reshape(-1)
        if not (math.isfinite(low) and math.isfinite(high)):
            if math.isnan(low):
                raise errors.QuantizationError(
                    f"Tensor '{self.tensor.name}' holds a NaN for a calibration "
                    "sample. Look for NaN in the sample, or for a model that overflows."
                )
            values = values[np.isfinite(values)]
            if not values.size:
                return values
            low, high = float(values.min()), float(values.max())
        self.min = min(self.min, low)
        self.max = max(self.max, high)
        before = self._average or (low, high)
        self._average = (
            _MEMORY * before[0] + (1.0 - _MEMORY) * low,
            _MEMORY * before[1] + (1.0 - _MEMORY) * high,
        )
        return values

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
    order or on how samples were batched. It is one array, however many samples.

    Of a large tensor every k-th element is counted, k without a common divisor with
    the number of channels, so that all channels count alike; minimum and maximum are
    of all elements.
    """

    def __init__(self, tensor: tflite.Tensor, *, exact: bool = False):
        """Makes an empty one for `tensor`; `exact` counts every element."""
        super().__init__(tensor)
        self._exact = exact
        self._exponent: int | None = None
        self._counts = np.zeros(2 * _SIDE, np.int64)

    def update(self, values: np.ndarray) -> None:
        """Takes in one sample's values.

        Raises:
            QuantizationError: there is a NaN.
        """
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        finite = self._widen(low, high, values)
        if not finite.size:
            return
        if not self._exact:
            finite = finite[:: _stride(finite.size, values.shape)]
        largest = max(-self.min, self.max)
        if largest == 0.0:
            self._counts[_SIDE] += finite.size
            return
        self._fit(largest)
        scaled = finite * np.float32(1.0 / self.width)
        if low < 0.0:
            np.floor(scaled, out=scaled)
        places = scaled.astype(np.intp)
        places += _SIDE
        self._counts += np.bincount(places, minlength=2 * _SIDE)

    def _fit(self, largest: float) -> None:
        """Widens the bins until `largest` has one."""
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

    @property
    def width(self) -> float:
        """The width of a bin, in the tensor's unit."""
        return math.ldexp(1.0, self._exponent or 0)

    def bins(self) -> tuple[np.ndarray, int]:
        """Returns the counts from the minimum's bin to the maximum's.

        Bins between 0 and the nearer end are there, too, though empty.

        Returns:
            int64 array [bins], and the number of bins below zero: bin i begins at
            (i - number) * `width`.
        """
        low, high = self.range
        below = min(math.ceil(-min(low, 0.0) / self.width), _SIDE)
        above = min(math.floor(max(high, 0.0) / self.width) + 1, _SIDE)
        return self._counts[_SIDE - below : _SIDE + above].copy(), below

    @property
    def num_values(self) -> int:
        """How many elements were counted."""
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
        seen = hashlib.sha256(self._counts.astype("<i8").tobytes())
        seen.update(str(self._exponent).encode())
        return seen.hexdigest()[:16]


def _stride(size: int, shape: tuple[int, ...]) -> int:
    stride = max(1, size // _SAMPLED)
    while math.gcd(stride, shape[-1] if shape else 1) > 1:
        stride += 1
    return stride
