"""A stranger's model may not keep this process busy, or fill it, while it is built.

What a config of a few bytes costs cannot be read from it: loops that are unrolled,
models in models that are each called twice, one output for every row. So what it
does cost is watched, in time of computing and in memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfslim import errors

# Of the building thread, wherever the system tells; a layer takes some 0.02 s.
_SECONDS, _SECONDS_PER_LAYER = 20.0, 0.1
# Beside what the weights themselves take, several times over.
_BYTES, _COPIES = 700 * 2**20, 4
# The memory of the whole process is seen: other threads may have taken it before.
_GRACE = 1.0
_INTERVAL, _PATIENCE = 0.1, 1.0
_MEMORY = Path("/proc/self/statm")


class _TooMuch(BaseException):
    """Raised in the thread that builds; nothing of Keras catches it."""


@contextlib.contextmanager
def watched(config: Any, file: Path, source: str) -> Iterator[None]:
    """Within it, a model may be built at a cost that fits its size.

    Args:
        config: the model's config.
        file: the file or folder that it came from.
        source: what messages call it.

    Raises:
        DataError: it took too long or too much memory.
    """
    builder, ended, reasons = threading.get_ident(), threading.Event(), list[str]()
    seconds = _SECONDS + _SECONDS_PER_LAYER * _objects(config)
    room = _BYTES + _COPIES * _size(file)
    watch = threading.Thread(
        target=_watch, args=(builder, ended, reasons, seconds, room), daemon=True
    )
    watch.start()
    try:
        try:
            yield
        finally:
            _end(watch, ended, builder)
    except BaseException as error:
        _end(watch, ended, builder)  # It may have been what was broken off.
        if not reasons:
            raise
        raise errors.DataError(
            f"'{source}' takes {reasons[0]} to build, far more than a model of its "
            "size: it is damaged, or made to do so. If you trust where the file comes "
            "from, open it with allow_unsafe=True (--allow_unsafe)."
        ) from error


def _end(watch: threading.Thread, ended: threading.Event, builder: int) -> None:
    while True:
        try:
            ended.set()
            watch.join()
            _raise(builder, None)
            return
        except _TooMuch:  # Came too late.
            continue


def _watch(
    builder: int,
    ended: threading.Event,
    reasons: list[str],
    seconds: float,
    room: int,
) -> None:
    clock = _clock(builder)
    start, before, began = clock(), _resident(), time.monotonic()
    while not ended.wait(_INTERVAL):
        is_late = time.monotonic() - began > _GRACE
        if clock() - start > seconds:
            reasons.append(f"more than {seconds:.0f} s of computing")
        elif is_late and _resident() - before > room:
            reasons.append(f"more than {room / 2**20:,.0f} MB of memory")
        if reasons:
            # Again and again: some callbacks of Python swallow what is raised.
            _raise(builder, _TooMuch)
            ended.wait(_PATIENCE)


def _raise(thread: int, kind: type[BaseException] | None) -> None:
    """Has a thread raise an exception at its next step; None: takes it back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind)
    )


def _clock(thread: int) -> Callable[[], float]:
    """Returns a clock of the time that a thread computes, else of the time passed."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    identifier = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(identifier)


def _resident() -> int:
    """Returns the memory of this process in bytes, 0 where the system hides it."""
    try:
        pages = int(_MEMORY.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * mmap.PAGESIZE


def _size(file: Path) -> int:
    files = file.rglob("*") if file.is_dir() else [file]
    return sum(part.stat().st_size for part in files if part.is_file())


def _objects(value: Any) -> int:
    """Returns how many objects a config names."""
    if isinstance(value, dict):
        return ("class_name" in value) + sum(map(_objects, value.values()))
    return sum(map(_objects, value)) if isinstance(value, list) else 0
