"""Timing of `.tflite` files: one result type, whatever runs them."""

from tfslim.benchmark.comparison import Comparison, compare
from tfslim.benchmark.host import check_host, run_host
from tfslim.benchmark.profile import profile_host
from tfslim.benchmark.result import BenchmarkResult, LatencyStats, OpTime, Options

# As it is called in `tfslim`.
BenchmarkOptions = Options

__all__ = [
    "BenchmarkOptions",
    "BenchmarkResult",
    "Comparison",
    "LatencyStats",
    "OpTime",
    "Options",
    "check_host",
    "compare",
    "profile_host",
    "run_host",
]
