"""Commands of tfslim in processes forked from one that has TensorFlow imported.

A command started so takes a second or two instead of ten, and dies as any other.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PRELOADED = [
    "keras",
    "tensorflow",
    "tf_keras",
    "tfslim.benchmark.__main__",
    "tfslim.export",
    "tfslim.loading.load",
    "tfslim.pipeline",
    "tfslim.quantization",
    "tfslim.quantize",
    "tfslim.report",
]
_COMMANDS = {
    "export": "tfslim.export",
    "quantize": "tfslim.quantize",
    "benchmark": "tfslim.benchmark.__main__",
}
# What a shell reports for a command that a signal ended, 128 + its number.
_INTERRUPTED = {130, 143}

_CONTEXT = multiprocessing.get_context("forkserver")


def start() -> None:
    """Imports what the children need, once."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _CONTEXT.set_forkserver_preload(_PRELOADED)
    call(int, ())


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a child ended. `code` is None if it had to be stopped."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float

    @property
    def problem(self) -> str | None:
        """Says what is wrong with how it ended; None for a result or one clear line."""
        last = (self.stderr.strip().splitlines() or ["(nothing)"])[-1]
        if self.code is None:
            return f"no end within {self.seconds:.0f} s; last line: {last}"
        if "Traceback (most recent call last)" in self.stderr:
            return f"traceback: {last}"
        if self.code in {0} | _INTERRUPTED:
            return None
        if self.code not in (1, 2):
            return f"exit code {self.code}: {last}"
        return None if ": error: " in last else f"exit code {self.code}, but: {last}"


def command(name: str, argv: list[str], folder: Path, **options: Any) -> Process:
    """Starts a command in `folder`.

    Args:
        name: export, quantize or benchmark.
        argv: its arguments.
        folder: where it runs.
        options: `limits`, see `call`.
    """
    return Process(_main, (_COMMANDS[name], ["tfslim", *argv]), folder, **options)


def call(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: Path | str = ".",
    *,
    seconds: float = 120,
    limits: Mapping[str, int] | None = None,
) -> Outcome:
    """Runs a function of a module in a child to its end."""
    return Process(function, arguments, folder, limits=limits).wait(seconds)


class Process:
    """A running child that writes to files of its own."""

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        folder: Path | str,
        *,
        limits: Mapping[str, int] | None = None,
    ):
        """Starts it.

        Args:
            function: what it runs; its result is the exit code, None: 0.
            arguments: of the function.
            folder: the working folder; the output goes beside it.
            limits: name in `resource` -> soft limit; AS is counted from what the
                child has when it starts.
        """
        self._logs = [Path(f"{Path(folder).absolute()}.{n}") for n in ("out", "err")]
        self._start = time.monotonic()
        self._process = _CONTEXT.Process(
            target=_child,
            args=(function, arguments, str(folder), self._logs, dict(limits or {})),
        )
        self._process.start()

    def send(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        if self._process.is_alive():
            os.kill(self._process.pid, number)

    def has_ended(self, seconds: float) -> bool:
        """Waits for so long at most; tells whether it has ended."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def wait(self, seconds: float = 120) -> Outcome:
        """Waits for its end; after `seconds` it is stopped."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        texts = [
            log.read_text(errors="replace") if log.exists() else ""
            for log in self._logs
        ]
        return Outcome(code, *texts, time.monotonic() - self._start)


def _child(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: str,
    logs: list[Path],
    limits: dict[str, int],
) -> None:
    for number, log in enumerate(logs, 1):
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(folder)
    # The fork server ignores it, and hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        if name == "AS":
            value += _address_space()
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    try:
        code = function(*arguments)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code or 0)


def _main(module: str, argv: list[str]) -> int:
    # Late: here it is in memory already.
    import importlib

    return importlib.import_module(module).main(argv)


def _address_space() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmSize:")[1].split()[0]) * 1024
