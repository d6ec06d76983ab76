"""Keeps the chatter of native code off the terminal of a command.

Native code writes to descriptor 2, which belongs to the whole process. Only a command
line may bend it, since the process is its own; a library call leaves it alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

# One at a time: two that save and restore in turns would lose the descriptor.
_LOCK = threading.RLock()
_is_command = False
_is_silent = False


@contextlib.contextmanager
def in_command() -> Iterator[None]:
    """Marks that the process is a command's own while the block runs."""
    global _is_command, _is_silent
    before = _is_command, _is_silent
    _is_command = True
    try:
        yield
    finally:
        _is_command, _is_silent = before


def silence() -> None:
    """Makes the command that runs show results and errors, and no progress."""
    global _is_silent
    _is_silent = _is_command


def is_silent() -> bool:
    """Whether the command that runs shows no progress."""
    return _is_silent


@contextlib.contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Takes what Python and native code write to stderr, if a command is running.

    Yields:
        A list that holds the text once the block has ended, "" if it was not taken.
    """
    said: list[str] = []
    if not _is_command:
        yield said
        said.append("")
        return
    with _LOCK, contextlib.ExitStack() as stack:
        try:
            sink = _sink(stack)
            saved = os.dup(2)
        except OSError:  # Nothing is open there, or nothing more can be.
            yield said
            said.append("")
            return
        stack.callback(os.close, saved)
        _flush()
        os.dup2(sink, 2)
        try:
            yield said
        finally:
            _flush()
            os.dup2(saved, 2)
            os.lseek(sink, 0, os.SEEK_SET)
            with os.fdopen(os.dup(sink), "rb") as file:
                said.append(file.read().decode("utf-8", "replace"))


def _sink(stack: contextlib.ExitStack) -> int:
    """Opens a file without a name; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        sink = os.memfd_create("stderr")
        stack.callback(os.close, sink)
        return sink
    return stack.enter_context(tempfile.TemporaryFile()).fileno()


def _flush() -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
