"""The extremes: true ones over all samples, and their moving average."""

from __future__ import annotations

from tfslim.quantization.ranges import statistics
from tfslim.quantization.ranges.thresholds import base

base.THRESHOLDS.register("minmax")(
    base.Threshold(statistics.Extremes, lambda seen: seen.range)
)
# litert-quantizer's own: new = 0.95 * old + 0.05 * sample's. It depends on the order
# of the samples and clips most of them somewhere.
base.THRESHOLDS.register("moving_average")(
    base.Threshold(statistics.Extremes, lambda seen: seen.average, follows_order=True)
)
