"""Calibration methods, one a file."""

from tfslim.quantization.ranges.thresholds import kl, minmax, mse, percentile
from tfslim.quantization.ranges.thresholds.base import THRESHOLDS, Statistic, Threshold

__all__ = [
    "THRESHOLDS",
    "Statistic",
    "Threshold",
    "kl",
    "minmax",
    "mse",
    "percentile",
]
