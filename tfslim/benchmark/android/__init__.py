"""Timing on phones, through the adb client and LiteRT's `benchmark_model`."""

from tfslim.benchmark.android.runner import (
    AndroidOptions,
    SomeDevicesFailedError,
    find_devices,
    run_android,
)

__all__ = [
    "AndroidOptions",
    "SomeDevicesFailedError",
    "find_devices",
    "run_android",
]
