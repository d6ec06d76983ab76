"""The conditions of a figure: machine and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

# Instruction sets that decide which kernels run: two CPUs of one name may differ.
_FEATURES = frozenset(
    "avx avx2 fma f16c avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 amx_int8 "
    "amx_bf16 asimd asimdhp asimddp i8mm bf16 sve sve2".split()
)


def _cpu() -> tuple[str, list[str]]:
    """Returns the model of the CPU and those of its instruction sets that matter."""
    fields: dict[str, str] = {}
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    model = fields.get("model name") or fields.get("Hardware") or platform.processor()
    features = fields.get("flags") or fields.get("Features") or ""
    return model, sorted(_FEATURES.intersection(features.split()))


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _mhz(khz: str | None) -> float | None:
    return float(khz) / 1e3 if khz else None


def cache_bytes() -> int | None:
    """Returns the size of the last-level cache of a core; None where it is hidden."""
    sizes = []
    for size in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = _read(str(size)) or ""
        factor = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        digits = text.rstrip("KM")
        sizes += [int(digits) * factor] if digits.isdecimal() else []
    return max(sizes, default=None)


def temperature_c() -> float | None:
    """Returns the hottest thermal zone in °C; None where none can be read."""
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    # A zone that is switched off gives 0 or a large negative number.
    found = [int(text) / 1e3 for zone in zones if (text := _read(str(zone)))]
    return max((value for value in found if 0 < value < 200), default=None)


class Watch:
    """How busy other programs keep this machine, from now on."""

    def __init__(self) -> None:
        """Starts to count."""
        self._start, self._others = time.monotonic(), _others_cpu_secs()

    def cores(self) -> float | None:
        """Returns how many cores others kept busy so far; None where it is hidden."""
        others, elapsed = _others_cpu_secs(), time.monotonic() - self._start
        if others is None or self._others is None or elapsed <= 0:
            return None
        return max(others - self._others, 0.0) / elapsed


def _others_cpu_secs() -> float | None:
    """Returns the CPU time that was not this process's or its ended children's."""
    # user, nice, system, idle, iowait, irq, softirq, steal: see proc(5).
    times = (_read("/proc/stat") or "").partition("\n")[0].split()[1:9]
    if len(times) < 8:
        return None
    idle = int(times[3]) + int(times[4])
    busy = (sum(map(int, times)) - idle) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


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
    model, features = _cpu()
    return {
        "device": "host",
        "cpu": model,
        "cpu_features": features,
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
