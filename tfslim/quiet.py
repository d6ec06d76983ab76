"""Keeps the chatter of native code off the terminal.

Native code writes to descriptor 2, which belongs to the whole process. A command line
may bend it, since the process is its own. A library call does so only where nobody else
can be writing there, puts it back, and passes on all that is no chatter: TensorFlow's
own switch, TF_CPP_MIN_LOG_LEVEL, does not reach the lines of its start. With that set
to 0, who wants to see all, nothing is held back.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

# One at a time: two that save and restore in turns would lose the descriptor.
_LOCK = threading.RLock()
_is_command = False
_is_silent = False

_SOURCE = r"\S+\.(cc|cpp|h):\d+\]"
# What TensorFlow and LiteRT say at their start, and the converter at its work: lines of
# information and warnings, and errors that say that there is no GPU.
_CHATTER = re.compile(
    r"WARNING: All log messages before absl::InitializeLog"
    rf"|[IW]\d{{4}} [\d:.]+ +\d+ {_SOURCE}(?!.*GPU libraries)"
    rf"|\d{{4}}-\d\d-\d\d [\d:.]+: [IW] {_SOURCE}(?!.*GPU libraries)"
    r"|.*\bcuda_(platform|dnn|fft|blas)\.cc:\d+\] "
    r"(failed call to cuInit|Unable to register cu)"
    r"|To enable the following instructions:"
    r"|INFO: Created TensorFlow Lite XNNPACK"
)


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
    """Takes what Python and native code write to stderr; see the module for when.

    In a library call all but chatter is written there once the block has ended.

    Yields:
        A list that holds the text once the block has ended, "" if it was not taken.
    """
    said: list[str] = []
    if not (_is_command or _may_bend()):
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
            if not _is_command:
                _pass_on(said[0])


def _may_bend() -> bool:
    """Whether a library call keeps no one's words back that could be missed."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return False
    if threading.active_count() == 1:
        return True
    # A notebook's and pytest's own streams do not pass there.
    try:
        return sys.stderr.fileno() != 2
    except (AttributeError, OSError, ValueError):
        return True


def _pass_on(said: str) -> None:
    for line in said.splitlines(keepends=True):
        if not _CHATTER.match(line):
            with contextlib.suppress(OSError):
                os.write(2, line.encode("utf-8", "replace"))


class _Door(importlib.abc.MetaPathFinder):
    """Stands before the import of TensorFlow; what tfslim imports comes in quietly."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Finds TensorFlow where tfslim asks for it, else nothing."""
        if fullname != "tensorflow" or not _asked_by_tfslim():
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        loader: Any = spec and spec.loader
        with contextlib.suppress(AttributeError):  # Of a loader in native code.
            loader.exec_module = functools.partial(_start, loader)
        return spec


def _start(loader: Any, module: ModuleType) -> None:
    """Runs TensorFlow's own code, and lets it say what it says of missing GPUs."""
    del loader.exec_module  # The class's own, from here on.
    with captured_stderr():
        loader.exec_module(module)
        # With a driver it is the user's to say when, and which GPUs are seen.
        if sys.platform == "linux" and not Path("/dev/nvidiactl").exists():
            module.config.list_physical_devices()


def _asked_by_tfslim() -> bool:
    frame: Any = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "tfslim":
            # Not the frames of this door, which every import passes.
            if frame.f_globals is not globals():
                return True
        frame = frame.f_back
    return False


def watch() -> None:
    """Keeps the start of TensorFlow quiet where tfslim imports it."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Door())


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
