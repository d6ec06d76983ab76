"""stdin, stdout and stderr of a command, whatever it was started with.

A service may start it with some of them closed, a container with ASCII, and either may
lie on a full disk. What is shown must not decide whether a job succeeds.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """Gives the block a stdout and a stderr that take every text.

    What stderr cannot take is lost; what stdout cannot take raises OSError.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        for stream in before:
            stack.enter_context(_of_any_character(stream))
        sys.stdout = before[0] or _nowhere(stack)
        sys.stderr = cast(TextIO, _Forgiving(before[1] or _nowhere(stack)))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def flush() -> None:
    """Writes out what stdout still holds.

    Raises:
        OSError: it cannot; nothing is left for Python to try again at its end.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        raise OSError(error.errno, error.strerror, "stdout") from error


def _open_closed() -> None:
    """Puts the null device where a descriptor is closed.

    The next file that is opened would take its number, and be written to by all that
    writes to stdout or stderr.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _nowhere(stack: contextlib.ExitStack) -> TextIO:
    return stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123


@contextlib.contextmanager
def _of_any_character(stream: TextIO | None) -> Iterator[None]:
    """Writes out the characters that a stream's encoding does not have."""
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            stream.reconfigure(errors=before)


class _Forgiving:
    """stderr, whose reader may be gone or whose disk may be full."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
