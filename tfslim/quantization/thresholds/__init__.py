"""Calibration methods, one a file."""

from tfslim.quantization.thresholds import minmax
from tfslim.quantization.thresholds.base import THRESHOLDS, Statistic, Threshold

__all__ = ["THRESHOLDS", "Statistic", "Threshold", "minmax"]
