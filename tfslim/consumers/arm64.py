"""The LiteRT Interpreter on arm64, emulated by QEMU: the CPU of nearly every phone.

XNNPACK runs the kernels that it has for the emulated CPU: a Cortex-A76 has the dot
product of 8-bit integers, a Cortex-A53 has not.
"""

from __future__ import annotations

import functools
import platform
import shutil
from pathlib import Path

from tfslim.consumers import interpreter, process
from tfslim.consumers.base import Consumer, Outcome, folder
from tfslim.consumers.samples import Samples

EMULATOR = "qemu-aarch64-static"


def emulator() -> str | None:
    """Returns QEMU's emulator, the one set up for tfslim or the system's."""
    own = folder("arm64") / EMULATOR
    return str(own) if own.exists() else shutil.which(EMULATOR)


def python_of(root: Path) -> Path | None:
    """Returns Python in a root of arm64 packages."""
    return next(iter(sorted((root / "usr" / "bin").glob("python3.*"))), None)


def _missing() -> str:
    own = folder("arm64")
    if platform.system() != "Linux":
        return "it runs on Linux only"
    if emulator() is None:
        return f"{EMULATOR} is not installed"
    if python_of(own / "root") is None or not (own / "site").is_dir():
        return f"'{own}' has no Python and LiteRT for arm64"
    return ""


def _run(cpu: str, content: bytes, inputs: Samples) -> Outcome:
    own = folder("arm64")
    root = own / "root"
    python = [str(emulator()), "-cpu", cpu, "-L", str(root), str(python_of(root))]
    # The system's own libraries are of another machine.
    ran = process.run_child(
        "interpreter",
        content,
        inputs=inputs,
        python=python,
        paths=[own / "site"],
        environment={"LD_LIBRARY_PATH": "", "PYTHONHOME": ""},
    )
    return interpreter.described(content, ran, cpu=cpu, emulated_by="QEMU")


def _consumer(name: str, cpu: str, *, what: str) -> Consumer:
    return Consumer(
        name=name, what=what, missing=_missing, run=functools.partial(_run, cpu)
    )


CONSUMER = _consumer(
    "arm64", "cortex-a76", what="LiteRT Interpreter, emulated Cortex-A76 (dot product)"
)
OLDER = _consumer(
    "arm64_a53", "cortex-a53", what="LiteRT Interpreter, emulated Cortex-A53 (NEON)"
)
