"""Timing on phones, through the adb client and LiteRT's `benchmark_model`."""

from tfslim.benchmark.android.runner import (
    AndroidOptions,
    SomeDevicesFailedError,
    check_delegate,
    find_devices,
    run_android,
)

__all__ = [
    "AndroidOptions",
    "SomeDevicesFailedError",
    "check_delegate",
    "find_devices",
    "run_android",
]
