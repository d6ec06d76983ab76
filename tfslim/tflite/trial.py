"""Where a file of unknown origin meets the LiteRT runtime first: in a child process.

The runtime trusts its files: a damaged one may end the process, or never come to an
end. Files that were tried, and what is made of them here, run without a child from
then on. A file read from a disk is of unknown origin, whatever it says about itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ai_edge_litert
import numpy as np

from tfslim import errors, escape

# Of the processor, and on the clock if that stands still.
_MAX_CPU_SECONDS = 40
_MAX_SECONDS = 80
_CHILD = Path(__file__).with_name("trial_child.py")
_OUT_OF_MEMORY = 3
_PART_BYTES = 2**22

# Mark of a file -> what is wrong with it, "" if nothing is.
_known: dict[object, str] = {}


def vouch(tflite: bytes) -> None:
    """Says that a file was made in this process, of nothing that is not known."""
    _known[_mark(tflite)] = ""


def is_known(tflite: bytes) -> bool:
    """Whether a file was found good or vouched for in this process."""
    return _known.get(_mark(tflite)) == ""


def require(tflite: bytes) -> None:
    """Loads and runs a file in a child process, unless it is known.

    What the runtime refuses in an orderly way passes: it does the same again.

    Raises:
        ConversionError: the runtime ends the process, finds no end or needs more
            memory than there is.
    """
    mark = _mark(tflite)
    if mark not in _known:
        _known[mark] = _fault(tflite)
    if _known[mark]:
        raise errors.ConversionError(
            f"{_known[mark]} The file is damaged or not made for this runtime: get "
            "it anew, or convert its model again."
        )


def _mark(tflite: bytes) -> object:
    """Returns what only a file of the same content has, in this process."""
    if isinstance(tflite, bytes):
        # Keyed by a secret of the process; the object keeps it, so a job that asks
        # about a large file at every step reads it once.
        return len(tflite), hash(tflite)
    digest = hashlib.sha256()
    for part in _parts(tflite):
        digest.update(part)
    return digest.digest()


def _parts(tflite: bytes) -> Iterator[memoryview]:
    """Yields a file piece by piece; one that is mapped leaves no memory taken."""
    view = memoryview(tflite)
    for start in range(0, len(view), _PART_BYTES):
        part = view[start : start + _PART_BYTES]
        yield part
        if isinstance(view.obj, mmap.mmap) and hasattr(mmap.mmap, "madvise"):
            view.obj.madvise(mmap.MADV_DONTNEED, start, len(part))


def _fault(tflite: bytes) -> str:
    """Says how a child that runs the file ends, "" where it ends well."""
    # Neither `site` nor the packages around it: they take longer than the rest.
    paths = {str(Path(m.__file__ or "").parents[1]) for m in (np, ai_edge_litert)}
    limits = [str(memory_bytes()), str(_MAX_CPU_SECONDS)]
    options = ["-I", "-S", "-W", "ignore"]
    command = [sys.executable, *options, str(_CHILD), *limits, *sorted(paths)]
    code, stderr = _run(command, tflite)
    if code == 0:
        return ""
    if code in (None, -getattr(signal, "SIGXCPU", 0)):
        return (
            f"LiteRT finds no end on it within {_MAX_CPU_SECONDS} s of CPU time, or "
            f"{_MAX_SECONDS} s."
        )
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    said = [line for line in lines if not line.startswith("INFO:")]
    last = f" ({escape.terminal(said[-1])[:200]})" if said else ""
    if code == _OUT_OF_MEMORY:
        return f"It needs more memory than this machine has{last}."
    return f"LiteRT ends the process with {_ending(code)} on it{last}."


def _run(command: list[str], tflite: bytes) -> tuple[int | None, bytes]:
    """Returns a child's exit code and stderr; the code is None if it found no end."""
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe
        )
    except OSError as error:
        raise errors.ConversionError(
            f"No child process can be started to try the file in ({error.strerror})."
        ) from error
    with child:
        try:
            # It reads all before it says anything.
            with contextlib.suppress(BrokenPipeError):
                for part in _parts(tflite):
                    child.stdin.write(part)  # type: ignore[union-attr]
            _, stderr = child.communicate(timeout=_MAX_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            return None, b""
        except BaseException:
            child.kill()
            raise
    return child.returncode, stderr


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def memory_bytes() -> int:
    """Returns how much memory is left on this machine; 0 if it does not say."""
    try:
        fields = dict(
            line.split(":", 1)
            for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        )
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
        sizes = [os.sysconf(n) for n in names] if hasattr(os, "sysconf") else [0]
        return int(np.prod(sizes, dtype=np.int64))
