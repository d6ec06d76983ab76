"""Full disks, folders that cannot be written, and limits of the process."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults import children, ledger, work

_ARGV = ["--model=model0.keras", "--epochs=1", *work.EXPORT]
# Soft limits, from too little for anything to enough; AS: beyond what TensorFlow has.
_LIMITS = {
    "AS": [2**shift for shift in range(16, 31)],
    "NOFILE": [4, 8, 12, 16, 24, 32, 64],
    # The error is written to a file, too: it must fit.
    "FSIZE": [200, 500, 1000, 3000, 5000, 20000, 100000],
}


def run(folder: Path, share: float) -> list[ledger.Row]:
    """Tries all limits; with `share` below 1 that part of them, chosen by chance."""
    work.prepare(folder / "inputs")
    rows = [_limited(folder, name, values, share) for name, values in _LIMITS.items()]
    return [_full_disk(folder, share), _unwritable(folder), *rows]


def _some(values: list[int], share: float) -> list[int]:
    count = max(1, round(share * len(values)))
    return sorted(random.Random(count).sample(values, count))


def _limited(folder: Path, name: str, values: list[int], share: float) -> ledger.Row:
    """Exports under a limit of `resource`.

    TensorFlow itself may end the process where memory ends, which no Python code can
    prevent: that counts as survived if the folder holds nothing half written.
    """
    row = ledger.Row(f"RLIMIT_{name}")
    by_signal = 0
    for value in _some(values, share):
        place = folder / f"{name}{value}"
        shutil.copytree(folder / "inputs", place)
        done = children.command("export", _ARGV, place, limits={name: value}).wait()
        is_dead = done.code is not None and done.code < 0
        by_signal += is_dead
        problem = None if is_dead and name == "AS" else done.problem
        if problem is None:
            problem = work.problem_of(place / "out", must_be_whole=done.code == 0)
        row.add(problem and f"{value}: {problem}")
    if by_signal:
        row.note = f"{by_signal} ended by TensorFlow or the system"
    return row


def _full_disk(folder: Path, share: float) -> ledger.Row:
    row = ledger.Row("full disk")
    for size in _some([8, 16, 24, 32, 40, 48, 56, 64, 80, 100], share):
        place = folder / f"disk{size}"
        shutil.copytree(folder / "inputs", place)
        with _mounted(place / "small", f"size={size}k") as is_there:
            if not is_there:
                row.note = "not tried: mounting needs root"
                return row
            argv = [*_ARGV[:-1], "--out_dir=small/out"]
            done = children.command("export", argv, place).wait()
            problem = done.problem or work.problem_of(
                place / "small/out", must_be_whole=done.code == 0
            )
            if problem is None and done.code and "small/out" not in done.stderr:
                problem = f"the path is not named: {done.stderr.splitlines()[-1]}"
        row.add(problem and f"{size} kB: {problem}")
    return row


@contextlib.contextmanager
def _mounted(place: Path, options: str) -> Iterator[bool]:
    """Mounts a small file system in memory, where that is allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        is_there = not subprocess.run(command, capture_output=True).returncode
    except OSError:
        is_there = False
    try:
        yield is_there
    finally:
        if is_there:
            subprocess.run(["umount", str(place)], check=True)


def _unwritable(folder: Path) -> ledger.Row:
    """Outputs into a folder on a read-only disk, below a file, and into /proc."""
    row = ledger.Row("read-only and unwritable folders")
    place = folder / "unwritable"
    shutil.copytree(folder / "inputs", place)
    tries: list[Callable[[str], children.Outcome]] = [
        lambda out: _export(place, out),
        lambda out: _quantize(place, out),
    ]
    with _mounted(place / "disk", "ro") as is_there:
        outs = ["model.tflite/out", "/proc/tfslim/out"]
        for out in [*outs, "disk/out"] if is_there else outs:
            for attempt in tries:
                done = attempt(out)
                problem = done.problem
                if problem is None and done.code == 0:
                    problem = "exit code 0"
                row.add(problem and f"{out}: {problem}")
    return row


def _export(place: Path, out: str) -> children.Outcome:
    argv = [*_ARGV[:-1], f"--out_dir={out}"]
    return children.command("export", argv, place).wait()


def _quantize(place: Path, out: str) -> children.Outcome:
    argv = ["model.tflite", "--recipe=dynamic_int8", f"--out={out}/a.tflite"]
    return children.command("quantize", argv, place).wait()
