"""What a calibration method is: a statistic to gather, and a range to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tfslim import registry


class Statistic(Protocol):
    """What is gathered of one tensor over all samples, in bounded memory."""

    def update(self, values: np.ndarray) -> None:
        """Takes in the values of a few samples.

        Args:
            values: float32 array [n, *shape of the tensor], in the order of the
                samples; a view on the runtime's memory: read it now, do not keep it.
        """


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A calibration method for 8-bit activations.

    Attributes:
        statistic: what it needs: `Extremes` or `Histogram`.
        choose: that statistic, filled -> (min, max) in the tensor's unit. Values
            outside saturate.
        spares_outputs: whether the model's outputs get their true range instead: the
            greatest logit decides, and clipping it costs answers.
        follows_order: whether the order of the samples matters.
    """

    statistic: type[Any]
    choose: Callable[[Any], tuple[float, float]]
    spares_outputs: bool = False
    follows_order: bool = False


THRESHOLDS: registry.Registry[Threshold] = registry.Registry("calibration")
