"""stdin, stdout and stderr of a command, whatever it was started with.

A service may start it with some of them closed, a container with ASCII, and either may
lie on a full disk. What is shown must not decide whether a job succeeds.
"""

from __future__ import annotations

import contextlib
import errno
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
        out, err = (stream or _nowhere(stack) for stream in before)
        sys.stdout = cast(TextIO, _Stream(out, name="stdout"))
        sys.stderr = cast(TextIO, _Stream(err))
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
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        raise


def _open_closed() -> None:
    """Puts the null device where a descriptor is closed.

    The next file that is opened would take its number, and be written to by all that
    writes to stdout or stderr.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


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


class _Stream:
    """A stream whose reader may be gone, or whose disk may be full.

    Args:
        stream: the stream.
        name: what it is called in the errors that it raises; None: it raises none.
    """

    def __init__(self, stream: TextIO, *, name: str | None = None):
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        with self._errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._errors():
            self._stream.flush()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it was closed.
            if self._name is not None:
                number = getattr(error, "errno", None) or errno.EIO
                raise OSError(number, os.strerror(number), self._name) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
