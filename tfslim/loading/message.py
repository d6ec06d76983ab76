"""Keras's pages of error, brought to a line."""

from __future__ import annotations

import re

_MAX_LENGTH = 200
# What TensorFlow puts before an error of an operation.
_PLACE = re.compile(r"^\{\{\w+ .*?\}\} ")
# Keras wraps an error once a level of nesting; the cause comes last.
_CAUSES = ("Exception encountered: ", "Error encountered during deserialization: ")


def first_line(error: BaseException) -> str:
    """Returns the cause in an error's text, or what kind it is if it says nothing."""
    text = str(error)
    for mark in _CAUSES:
        text = text.rpartition(mark)[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    while len(lines) > 1 and lines[0].endswith(":"):
        del lines[0]  # A heading.
    line = plain(_PLACE.sub("", lines[0])) if lines else type(error).__name__
    if len(line) > _MAX_LENGTH:
        line = f"{line[:_MAX_LENGTH]}…"
    return line.rstrip(".")


def plain(text: object) -> str:
    """Returns a text from a file with what moves a terminal's cursor written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(text)
    )
