"""Runs a file in a child process: what it does there cannot hurt this one."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import escape, tflite
from tfslim.consumers import samples
from tfslim.consumers.base import ConsumerError, Outcome

_CHILD = Path(__file__).with_name("child.py")
_SECONDS = 600.0
# Of a Python error its text is enough.
_ERROR = re.compile(r"^[\w.]+(Error|Exception): ")
_CHATTER = ("INFO:", "WARNING:", "I0", "W0", "└")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ran:
    """What a child left.

    Attributes:
        outputs: output name -> float32 array [samples, ...].
        facts: what the child says of itself.
        said: its stderr.
        seconds: of the whole process.
    """

    outputs: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    said: str
    seconds: float

    def outcome(
        self,
        *,
        is_fully_accelerated: bool | None,
        fell_back: Sequence[str] = (),
        **conditions: Any,
    ) -> Outcome:
        """Returns the outcome, with more conditions."""
        known = {key: self.facts[key] for key in ("python", "machine")}
        return Outcome(
            outputs=self.outputs,
            is_fully_accelerated=is_fully_accelerated,
            fell_back=tuple(fell_back),
            versions=self.facts["versions"],
            conditions={**known, **conditions},
            seconds=self.seconds,
        )


def run_child(
    kind: str,
    content: bytes,
    *,
    inputs: samples.Samples,
    python: Sequence[str] = (sys.executable,),
    paths: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Ran:
    """Runs a function of `child.py` on a file.

    Args:
        kind: "interpreter", "compiled" or "mediapipe".
        content: the file.
        inputs: input name -> array [samples, ...] of real numbers.
        python: the command that starts Python.
        paths: folders of packages for it.
        environment: variables to add to this process's.
        options: what the function takes.

    Raises:
        ConsumerError: the program refuses the file or ends on it.
    """
    model = tflite.read(content)
    packed = samples.pack(model, inputs)
    options = {"paths": [str(path) for path in paths], **(options or {})}
    with tempfile.TemporaryDirectory(prefix="tfslim-") as name:
        job = Path(name)
        (job / "model.tflite").write_bytes(content)
        np.savez(job / "inputs.npz", *packed.arrays)
        (job / "options.json").write_text(json.dumps(options), encoding="utf-8")
        start = time.monotonic()
        command = [*python, "-I", str(_CHILD), kind, name]
        said = call(command, environment=environment).stderr
        seconds = time.monotonic() - start
        facts = json.loads((job / "facts.json").read_text(encoding="utf-8"))
        with np.load(job / "outputs.npz", allow_pickle=False) as stored:
            arrays = [stored[name] for name in stored.files]
    outputs = samples.unpack(model, arrays, packed=packed)
    return Ran(outputs=outputs, facts=facts, said=said, seconds=seconds)


def call(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end.

    Raises:
        ConsumerError: it cannot be started, fails, or finds no end in 10 minutes; with
            the last line that it said.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        raise ConsumerError(f"{command[0]} cannot be started: {error}.") from error
    except subprocess.TimeoutExpired as error:
        raise ConsumerError(f"It finds no end within {_SECONDS:.0f} s.") from error
    if done.returncode:
        raise ConsumerError(_reason(done.returncode, done.stderr or done.stdout))
    return done


def _reason(code: int, said: str) -> str:
    """Says why a child failed: its last error, else how it ended."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_CHATTER)]
    last = _ERROR.sub("", lines[-1]) if lines else "no reason given"
    last = escape.terminal(last)[:300].rstrip(".")
    if code < 0:
        return f"The program ended with {signal.Signals(-code).name}: {last}."
    return f"{last}."
