"""Figures with their units, as every table of tfslim shows them."""

from __future__ import annotations


def size(size_bytes: int) -> str:
    """Formats a size: "46.75 MB" (10^6 bytes), "151.2 kB" below one MB."""
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.2f} MB"


def count(number: int | None) -> str:
    """Formats a count with its unit of thousands: "11.2 M", "560.1 k"."""
    if number is None:
        return "-"
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.2f} {unit}"
    return str(number)


def microseconds(value: float | None) -> str:
    """Formats a latency: "1.24 ms" from one millisecond on, else "87.0 us"."""
    if value is None:
        return "-"
    return f"{value / 1e3:.2f} ms" if value >= 1e3 else f"{value:.1f} us"


def figure(value: float | None, form: str = ".4g") -> str:
    """Formats a metric, with four significant digits if not told otherwise."""
    return "-" if value is None else format(value, form)


def points(share: float) -> str:
    """Formats a change of a share in percentage points: "-0.6", "+1.2", "0.0"."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def plain_points(share: float) -> str:
    """Formats a number of percentage points: "1 point", "0.5 points"."""
    number = f"{100 * share:g}"
    return f"{number} point" if number == "1" else f"{number} points"
