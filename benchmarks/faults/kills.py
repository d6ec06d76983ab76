"""SIGKILL, SIGINT and SIGTERM at random moments of the jobs that write."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import time
from concurrent import futures
from pathlib import Path

from benchmarks.faults import children, ledger, work

# So many jobs at a time: the cores of the machine that this was written on.
_AT_ONCE = 2
# Before that a child is not tfslim's yet, but Python's own start.
_STARTED_S = 0.1


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that writes, and the one that wrote what stands there before."""

    name: str
    command: str
    argv: list[str]
    before: list[str] | None = None


def jobs() -> list[Job]:
    """Returns the jobs that are disturbed."""
    train = ["--model=model0.keras", "--epochs=3", *work.EXPORT]
    second = ["--model=model1.keras", "--epochs=1", *work.EXPORT, "--overwrite"]
    return [
        Job("export, fresh", "export", [*train, "--overwrite"]),
        Job("export --overwrite", "export", second, before=[*train, "--overwrite"]),
        Job(
            "quantize --overwrite",
            "quantize",
            work.QUANTIZE,
            before=[*work.QUANTIZE, "--recipe=dynamic_int8"],
        ),
        Job(
            "training with a backup",
            "export",
            [*train, "--overwrite", "--config.training.backup_dir=backup"],
        ),
    ]


def run(folder: Path, trials: int, signals: int) -> list[ledger.Row]:
    """Disturbs each job.

    Args:
        folder: where to work.
        trials: SIGKILLs, over all jobs.
        signals: SIGINTs and SIGTERMs, over all jobs.
    """
    rows = []
    todo = jobs()
    for number, job in enumerate(todo):
        place = folder / f"job{number}"
        reference = _Reference(place, job)
        kills = ledger.Row(f"SIGKILL: {job.name}")
        _repeat(reference, kills, [signal.SIGKILL], trials // len(todo))
        polite = ledger.Row(f"SIGINT, SIGTERM: {job.name}")
        _repeat(
            reference, polite, [signal.SIGINT, signal.SIGTERM], signals // len(todo)
        )
        rows += [kills, polite]
    return rows


class _Reference:
    """A job run to its end without a disturbance: what it must come to."""

    def __init__(self, folder: Path, job: Job):
        self.job, self.folder = job, folder
        inputs = folder / "inputs"
        work.prepare(inputs)
        self.start = self._run("before", job.before) if job.before else inputs
        self.end = self._run("whole", job.argv)
        self.result = _result(self.end)

    def _run(self, name: str, argv: list[str]) -> Path:
        place = self.folder / name
        shutil.copytree(self.folder / "inputs", place)
        start = time.monotonic()
        done = children.command(self.job.command, argv, place).wait()
        self.seconds = time.monotonic() - start
        if done.code != 0:
            raise RuntimeError(f"{self.job.name}: {done.stderr}")
        return place


def _result(place: Path) -> dict[str, bytes]:
    """Returns the .tflite files of a finished job."""
    found = work.contents(place / "out")
    return found or {"out.tflite": (place / "out.tflite").read_bytes()}


def _repeat(
    reference: _Reference, row: ledger.Row, numbers: list[int], trials: int
) -> None:
    moments = random.Random(row.name)

    def trial(index: int) -> str | None:
        moment = moments.uniform(_STARTED_S, reference.seconds)
        number = numbers[index % len(numbers)]
        problem = _disturb(reference, f"{row.name[:4]}{index}", number, moment)
        return problem and f"after {moment:.2f} s: {problem}"

    with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        for problem in pool.map(trial, range(trials)):
            row.add(problem)


def _disturb(
    reference: _Reference, name: str, number: int, moment: float
) -> str | None:
    """Interrupts a job, looks at what it left, and runs it again to its end."""
    job, place = reference.job, reference.folder / name
    shutil.copytree(reference.start, place)
    old = _result(reference.start) if job.before else {}
    process = children.command(job.command, job.argv, place)
    time.sleep(moment)
    process.send(number)
    ended = process.wait()
    if number != signal.SIGKILL and ended.problem:
        return f"{signal.Signals(number).name}: {ended.problem}"
    problem = _after_the_kill(reference, place, old)
    if problem is None:
        again = children.command(job.command, job.argv, place).wait()
        problem = again.problem or _at_the_end(reference, place, again.code)
    if problem is None:
        shutil.rmtree(place)
    return problem


def _after_the_kill(
    reference: _Reference, place: Path, old: dict[str, bytes]
) -> str | None:
    if reference.job.command == "export":
        return work.problem_of(place / "out", must_be_whole=False)
    path = place / "out.tflite"
    new = reference.result["out.tflite"]
    if path.read_bytes() not in (old["out.tflite"], new):
        return "out.tflite is neither the old file nor the new one"
    return None


def _at_the_end(reference: _Reference, place: Path, code: int | None) -> str | None:
    if code != 0:
        return f"the job run again ended with {code}"
    if reference.job.command == "export":
        problem = work.problem_of(place / "out", must_be_whole=True)
        if problem is not None:
            return f"run again: {problem}"
    if _result(place) != reference.result:
        return "run again, the files are not those of the undisturbed job"
    return None
