"""The conditions of a figure: machine and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    for line in lines:
        if line.startswith(("model name", "Hardware")):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _mhz(khz: str | None) -> float | None:
    return float(khz) / 1e3 if khz else None


def temperature_c() -> float | None:
    """Returns the hottest thermal zone in °C; None where none can be read."""
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    # A zone that is switched off gives 0 or a large negative number.
    found = [int(text) / 1e3 for zone in zones if (text := _read(str(zone)))]
    return max((value for value in found if 0 < value < 200), default=None)


def versions(*packages: str) -> dict[str, str]:
    """Returns the installed versions of `packages`; absent ones are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def host() -> dict[str, Any]:
    """Describes this machine, never a phone: figures carry it as their condition."""
    return {
        "device": "host",
        "cpu": _cpu_model(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "os": f"{platform.system()} {platform.release()}",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cpu_mhz": _mhz(_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")),
        "temperature_before_c": temperature_c(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions("ai-edge-litert", "numpy"),
    }
