"""Names the better file where one is dominated in size, error and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Medians of one machine differ by less from run to run.
_SLOWER, _SLOWER_US = 1.15, 5.0
_FASTER = 0.9
_AS_SMALL, _SMALLER = 1.02, 0.9
_HARDLY_SMALLER = 0.95
_AS_RIGHT_DB, _MORE_RIGHT_DB = 0.5, 3.0
# An error of that many dB is as large as what varies in the output.
_USELESS_DB = 1.0
# What is worth naming in the place of another file.
_SOUND_DB = 10.0


def better_files(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Says which files have a better one beside them, and which.

    Args:
        rows: one a file, the float one first: "name", "size_bytes", "sqnr_db" (of the
            worst column, against the float file) and "p50_us". The last two may be
            missing or None where they are not known.

    Returns:
        A line for each file that is as wrong as zeros, slower than the float file, or
        no better than another one in anything.
    """
    notes = []
    for row in rows[1:]:
        rivals = [other for other in rows if other is not row]
        note = _wrong(row, rivals) or _slow(row, rows[0], rivals=rivals[1:])
        note = note or _dominated(row, rivals)
        if note:
            notes.append(note)
    return notes


def is_slower(row: Mapping[str, Any], floating: Mapping[str, Any]) -> bool:
    """Whether a file takes longer than the float one, by more than timing varies."""
    own, other = _known(row, "p50_us"), _known(floating, "p50_us")
    if own is None or other is None:
        return False
    return own > max(other * _SLOWER, other + _SLOWER_US)


def _wrong(row: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]]) -> str:
    if _known(row, "sqnr_db") is None or row["sqnr_db"] >= _USELESS_DB:
        return ""
    sound = [other for other in rivals[1:] if _is_sound(other)] or list(rivals[:1])
    best = min(sound, key=lambda other: other["size_bytes"])
    return (
        f"{row['name']} has an error as large as the signal ({row['sqnr_db']:.1f} dB): "
        f"take {_described(best)}."
    )


def _slow(
    row: Mapping[str, Any],
    floating: Mapping[str, Any],
    *,
    rivals: Sequence[Mapping[str, Any]],
) -> str:
    if not is_slower(row, floating):
        return ""
    found = (
        f"{row['name']} is slower than {floating['name']} "
        f"({row['p50_us'] / 1000:.3g} against {floating['p50_us'] / 1000:.3g} ms)"
    )
    quick = [
        rival
        for rival in rivals
        if _is_sound(rival)
        and rival["size_bytes"] < _HARDLY_SMALLER * floating["size_bytes"]
        and _known(rival, "p50_us") is not None
        and not is_slower(rival, floating)
    ]
    if not quick:
        smaller = row["size_bytes"] < floating["size_bytes"]
        return f"{found}: it is {'only smaller' if smaller else 'not even smaller'}."
    best = min(quick, key=lambda rival: rival["size_bytes"])
    return f"{found}: take {_described(best)}."


def _dominated(row: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]]) -> str:
    better = [rival for rival in rivals if _dominates(rival, row)]
    if not better:
        return ""
    best = min(better, key=lambda rival: rival["size_bytes"])
    return f"{_described(row)} is no better in anything than {_described(best)}."


def _dominates(rival: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a file is as good in size, error and time, and better in one of them."""
    pairs = [(_known(rival, key), _known(row, key)) for key in ("sqnr_db", "p50_us")]
    (right, own_right), (time, own_time) = pairs
    if right is None or own_right is None or (time is None) != (own_time is None):
        return False
    time, own_time = time or 1.0, own_time or 1.0
    size, own_size = rival["size_bytes"], row["size_bytes"]
    is_as_good = (
        size <= own_size * _AS_SMALL
        and right >= own_right - _AS_RIGHT_DB
        and time <= own_time * _AS_SMALL
    )
    return is_as_good and (
        size <= own_size * _SMALLER
        or right >= own_right + _MORE_RIGHT_DB
        or time <= own_time * _FASTER
    )


def _is_sound(row: Mapping[str, Any]) -> bool:
    known = _known(row, "sqnr_db")
    return known is not None and known >= _SOUND_DB


def _known(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return None if value is None else float(value)


def _described(row: Mapping[str, Any]) -> str:
    facts = [f"{row['size_bytes'] / 1000:,.0f} kB"]
    if _known(row, "p50_us") is not None:
        facts.append(f"{row['p50_us'] / 1000:.3g} ms")
    if _known(row, "sqnr_db") is not None:
        facts.append(f"{row['sqnr_db']:.1f} dB")
    return f"{row['name']} ({', '.join(facts)})"
