"""What a phone is, how hot it is, and which of its cores are fast."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfslim.benchmark.android.adb import Device

MAX_RISE_C = 5.0
MIN_BATTERY = 20

_CPUS = 16
_FREQUENCY = "/sys/devices/system/cpu/cpu{}/cpufreq/{}"
# Temperature types of Android's thermal HAL: 0 is a CPU, 3 the skin.
_TEMPERATURE = re.compile(r"Temperature\{mValue=([-\d.]+), mType=0,")


def read(device: Device) -> dict[str, Any]:
    """Returns the conditions of figures from this device.

    Raises:
        BenchmarkError: the device was lost.
    """
    lines = device.query("getprop").output.splitlines()
    properties = dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", "\n".join(lines), re.M))
    get = properties.get
    abis = get("ro.product.cpu.abilist") or get("ro.product.cpu.abi") or ""
    return {
        "device": f"{get('ro.product.manufacturer', '')} "
        f"{get('ro.product.model', 'unknown')}".strip(),
        "serial": device.serial,
        "cpu": get("ro.soc.model") or get("ro.board.platform") or "unknown SoC",
        "abi": abis.split(",")[0],
        "abis": [abi for abi in abis.split(",") if abi],
        "os": f"Android {get('ro.build.version.release', '?')} "
        f"(SDK {get('ro.build.version.sdk', '?')})",
        "fingerprint": get("ro.build.fingerprint"),
        **_cores(device),
    }


def _cores(device: Device) -> dict[str, Any]:
    """Returns governor and highest frequency of every core that tells them."""
    fields = ("cpuinfo_max_freq", "scaling_governor")
    reads = [
        f"echo cpu {n} $(cat {_FREQUENCY.format(n, fields[0])} 2>/dev/null) "
        f"$(cat {_FREQUENCY.format(n, fields[1])} 2>/dev/null)"
        for n in range(_CPUS)
    ]
    text = device.query("; ".join(reads)).output
    found = re.findall(r"^cpu (\d+) (\d+) ?(\S*)$", text, re.M)
    governors = list(dict.fromkeys(governor for _, _, governor in found if governor))
    return {
        "max_mhz": {int(n): int(khz) // 1000 for n, khz, _ in found},
        "governor": ", ".join(governors) or None,
    }


def big_cores(max_mhz: Mapping[int, int], num_threads: int) -> str | None:
    """Returns the mask for `taskset`, in hexadecimal, of the fastest cores.

    As many as there are threads, and all others that are as fast as the slowest of
    these; None where all cores are alike or unknown.
    """
    fastest = sorted(max_mhz.values(), reverse=True)
    if len(fastest) < 2 or fastest[0] == fastest[-1]:
        return None
    least = fastest[min(num_threads, len(fastest)) - 1]
    if least == fastest[-1]:
        return None
    return format(sum(1 << n for n, mhz in max_mhz.items() if mhz >= least), "x")


def temperature_c(device: Device) -> float | None:
    """Returns the hottest CPU sensor in °C, else the battery's; None if neither."""
    sensors = _TEMPERATURE.findall(
        # Cached values come first in the text, those from the hardware after.
        device.query("dumpsys thermalservice").output.rpartition("Current temp")[2]
    )
    if sensors:
        return max(float(value) for value in sensors)
    return battery(device)["temperature_c"]


def battery(device: Device) -> dict[str, Any]:
    """Returns the battery's `percent`, `temperature_c` and whether it is `charging`."""
    text = device.query("dumpsys battery").output
    values = dict(re.findall(r"^\s*([\w ]+): (\S+)$", text, re.M))
    tenths = values.get("temperature")
    powered = [v for k, v in values.items() if k.endswith("powered")]
    return {
        "percent": int(values["level"]) if "level" in values else None,
        "temperature_c": int(tenths) / 10 if tenths else None,
        "charging": "true" in powered if powered else None,
    }


def check(
    before: Mapping[str, Any], after_c: float | None, *, hottest_rise: float
) -> dict[str, str]:
    """Looks at heat and battery: short name -> what speaks against the figures."""
    found = {}
    if after_c is not None and before["temperature_before_c"] is not None:
        rise = after_c - before["temperature_before_c"]
        if max(rise, hottest_rise) > MAX_RISE_C:
            found["hot"] = (
                f"The device was up to {max(rise, hottest_rise):.0f} °C hotter than at "
                f"the start (limit {MAX_RISE_C:.0f}): it may have slowed down. Wait "
                "longer between runs: --cooldown_secs."
            )
    percent = before["battery_percent"]
    if percent is not None and percent < MIN_BATTERY:
        found["battery"] = (
            f"The battery was at {percent}%, below {MIN_BATTERY}%: phones save power "
            "then. Charge it first."
        )
    return found
