"""Timing of `.tflite` files: one result type, whatever runs them."""

from tfslim.benchmark.host import run_host
from tfslim.benchmark.result import BenchmarkResult, LatencyStats, Options

__all__ = ["BenchmarkResult", "LatencyStats", "Options", "run_host"]
