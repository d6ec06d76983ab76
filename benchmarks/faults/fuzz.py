"""Damaged inputs, thousands of them, through all that tfslim reads."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
import warnings
from concurrent import futures
from pathlib import Path

from benchmarks.faults import children, ledger

_AT_ONCE = 2
# A child takes so many inputs, so that a death costs little.
_CHUNK = 100
# An input that takes longer hangs.
_LIMIT_S = 30


def run(inputs: Path, tries: int) -> list[ledger.Row]:
    """Feeds `tries` damaged inputs; returns a row for each kind of file.

    What is taken, or refused with an error of tfslim, has survived. Any other
    exception, a dead process and no end within 30 s have not.
    """
    shares = _shares(inputs)
    total = sum(shares.values())
    rows = {name: ledger.Row(f"damaged {name}") for name in shares}
    chunks = []
    for name, share in shares.items():
        count = max(1, tries * share // total)
        chunks += [
            (name, start, min(_CHUNK, count - start))
            for start in range(0, count, _CHUNK)
        ]
    random.Random(0).shuffle(chunks)
    with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        for name, problems in pool.map(lambda c: _feed(inputs, *c), chunks):
            for problem in problems:
                rows[name].add(problem)
    return list(rows.values())


def _shares(inputs: Path) -> dict[str, int]:
    path = inputs / "shares.json"
    done = children.call(_write_shares, (inputs, path), inputs)
    if done.code != 0:
        raise RuntimeError(done.stderr)
    return json.loads(path.read_text())


def _write_shares(inputs: Path, path: Path) -> None:
    from benchmarks.faults import parsers

    found = parsers.all_parsers(inputs)
    path.write_text(json.dumps({parser.name: parser.share for parser in found}))


def _feed(
    inputs: Path, name: str, start: int, count: int
) -> tuple[str, list[str | None]]:
    """Feeds inputs number `start` to `start + count`, in as many children as needed."""
    problems: list[str | None] = []
    while len(problems) < count:
        with tempfile.TemporaryDirectory(dir=inputs.parent) as folder:
            log = Path(folder) / "log"
            first = start + len(problems)
            process = children.Process(
                _take, (inputs, name, first, count - len(problems), log), folder
            )
            ended = _watch(process, log)
            said = log.read_text().splitlines() if log.exists() else []
            for log_file in Path(folder).parent.glob(f"{Path(folder).name}.*"):
                log_file.unlink()
        found = [json.loads(line) for line in said]
        problems += [row["problem"] for row in found]
        if ended is not None and len(problems) < count:
            problems.append(f"input {start + len(problems)}: {ended}")
    return name, problems


def _watch(process: children.Process, log: Path) -> str | None:
    """Waits while the log grows; returns how the process died, if it did."""
    size, since = -1, time.monotonic()
    while not process.has_ended(0.5):
        now = log.stat().st_size if log.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > 2 * _LIMIT_S:
            process.send(signal.SIGKILL)
            process.wait()
            return "no end"
    done = process.wait()
    if not done.code:
        return None
    last = (done.stderr.strip().splitlines() or ["(nothing)"])[-1]
    return f"the process ended with {done.code}: {last}"


class _TooLongError(BaseException):
    pass


def _take(inputs: Path, name: str, start: int, count: int, log: Path) -> None:
    from benchmarks.faults import parsers
    from tfslim import errors

    warnings.simplefilter("ignore")
    (parser,) = [p for p in parsers.all_parsers(inputs) if p.name == name]

    def stop(*_: object) -> None:
        raise _TooLongError

    signal.signal(signal.SIGALRM, stop)
    path = Path.cwd() / parser.file
    with log.open("a") as out:
        for number in range(start, start + count):
            chance = random.Random(f"{name}{number}")
            data = chance.choice(parser.damages)(chance.choice(parser.seeds), chance)
            path.write_bytes(data)
            problem = None
            signal.alarm(_LIMIT_S)
            try:
                parser.take(path)
            except errors.TfslimError as error:
                if "\n" in str(error):
                    problem = f"input {number}: more than one line: {error}"
            except _TooLongError:
                problem = f"input {number}: no end within {_LIMIT_S} s"
            except Exception as error:
                problem = f"input {number}: {type(error).__name__}: {error}"
            finally:
                signal.alarm(0)
            out.write(json.dumps({"problem": problem}) + "\n")
            out.flush()
            os.fsync(out.fileno())
