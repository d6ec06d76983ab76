"""Keras's pages of error, brought to a line."""

from __future__ import annotations

_MAX_LENGTH = 200
# Keras wraps an error once a level of nesting; the cause comes last.
_CAUSES = ("Exception encountered: ", "Error encountered during deserialization: ")


def first_line(error: BaseException) -> str:
    """Returns the cause in an error's text, or what kind it is if it says nothing."""
    text = str(error)
    for mark in _CAUSES:
        text = text.rpartition(mark)[2]
    lines = text.strip().splitlines() or [type(error).__name__]
    line = plain(lines[0].strip())
    if len(line) > _MAX_LENGTH:
        line = f"{line[:_MAX_LENGTH]}…"
    return line.rstrip(".")


def plain(text: object) -> str:
    """Returns a text from a file with what moves a terminal's cursor written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(text)
    )
