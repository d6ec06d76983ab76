"""The true minimum and maximum over all samples."""

from __future__ import annotations

import numpy as np

from tfslim import errors, tflite
from tfslim.quantization.thresholds import base


class MinMax:
    """The least and the greatest finite value seen.

    Infinities are passed over: a -inf in the padding before a max pooling stands for
    "nothing", and saturates rightly.

    Attributes:
        min: +inf as long as nothing was seen.
        max: -inf as long as nothing was seen.
    """

    def __init__(self, tensor: tflite.Tensor):
        """Makes an empty one for `tensor`."""
        self._name = tensor.name
        self.min = np.inf
        self.max = -np.inf

    def update(self, values: np.ndarray) -> None:
        """Takes in one sample's values.

        Raises:
            QuantizationError: there is a NaN.
        """
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            if np.isnan(low):
                raise errors.QuantizationError(
                    f"Tensor '{self._name}' holds a NaN for a calibration sample. Look "
                    "for NaN in the sample, or for a model that overflows."
                )
            finite = values[np.isfinite(values)]
            if not finite.size:
                return
            low, high = float(finite.min()), float(finite.max())
        self.min = min(self.min, low)
        self.max = max(self.max, high)

    @property
    def range(self) -> tuple[float, float]:
        """(min, max); (0, 0) if nothing finite was seen."""
        return (0.0, 0.0) if self.min > self.max else (self.min, self.max)


base.THRESHOLDS.register("minmax")(base.Threshold(MinMax, lambda seen: seen.range))
