"""Keras's pages of error, brought to a line."""

from __future__ import annotations

_MAX_LENGTH = 200


def first_line(error: BaseException) -> str:
    """Returns the first line of an error, or what kind it is if it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[0].strip()
    if len(line) > _MAX_LENGTH:
        line = f"{line[:_MAX_LENGTH]}…"
    return line.rstrip(".")
