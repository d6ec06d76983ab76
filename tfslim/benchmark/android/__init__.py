"""Timing on phones, through the adb client and LiteRT's `benchmark_model`."""

from tfslim.benchmark.android.runner import AndroidOptions, run_android

__all__ = ["AndroidOptions", "run_android"]
