"""Many at once, many in a row, and the same again."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from benchmarks.faults import children, ledger, work


def run(folder: Path, share: float) -> list[ledger.Row]:
    """Runs the crowds; with `share` below 1 that part of them."""
    work.prepare(folder / "inputs")
    rows = [
        _same_folder(folder, 2, max(1, round(10 * share))),
        _same_folder(folder, 6, max(1, round(3 * share))),
        _in_child("16 threads", _threads, folder, max(2, round(10 * share))),
        _in_child(
            "models in one process", _in_a_row, folder, max(15, round(100 * share))
        ),
    ]
    if share == 1:
        rows.append(_same_files(folder))
    return rows


def _same_folder(folder: Path, jobs: int, times: int) -> ledger.Row:
    """Exports into one folder at the same moment: one does it, the others say so."""
    row = ledger.Row(f"{jobs} exports into one folder at once")
    for number in range(times):
        place = folder / f"{jobs}at{number}"
        shutil.copytree(folder / "inputs", place)
        row.add(_race(place, jobs))
    return row


def _race(place: Path, jobs: int) -> str | None:
    argv = [
        ["--epochs=0", f"--model=model{n % 2}.keras", *work.EXPORT] for n in range(jobs)
    ]
    logs = [place / f"log{n}" for n in range(jobs)]
    for log in logs:
        log.mkdir()
    started = [
        children.Process(_export_in, (words, str(place)), log)
        for words, log in zip(argv, logs, strict=True)
    ]
    ended = [process.wait() for process in started]
    problems = [outcome.problem for outcome in ended if outcome.problem]
    if problems:
        return problems[0]
    winners = [n for n, outcome in enumerate(ended) if outcome.code == 0]
    if len(winners) != 1:
        return f"{len(winners)} of {jobs} say that they did it"
    problem = work.problem_of(place / "out", must_be_whole=True)
    if problem is None:
        said = (place / "out/config.json").read_text()
        if f"model{winners[0] % 2}" not in said:
            return "the result is another job's"
    return problem


def _export_in(argv: list[str], folder: str) -> int:
    from tfslim import export

    os.chdir(folder)
    return export.main(["tfslim", *argv])


def _in_child(name: str, function: object, folder: Path, count: int) -> ledger.Row:
    row = ledger.Row(name)
    place = folder / function.__name__
    place.mkdir()
    done = children.call(function, (folder / "inputs", count), place, seconds=900)
    row.tried = count
    if done.problem or done.code:
        row.lost = [done.problem or (done.stderr.strip().splitlines() or ["?"])[-1]]
    row.note = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    return row


def _threads(inputs: Path, rounds: int) -> int:
    """Quantizes and runs in 16 threads: results and descriptors stay the same."""
    import tfslim
    from tfslim import tflite

    model = (inputs / "model.tflite").read_bytes()
    x = np.random.default_rng(0).random((8, 8, 8, 1)).astype("float32")
    samples = [row[None] for row in x]
    wanted = tfslim.quantize_tflite(model, "int8", samples=samples).tflite
    (answer,) = tflite.run(model, x[:1]).values()
    before = os.fstat(2), dict(os.environ)
    problems = []

    def work_on() -> None:
        for _ in range(rounds):
            try:
                made = tfslim.quantize_tflite(model, "int8", samples=samples).tflite
                if made != wanted:
                    problems.append("another file")
                (found,) = tflite.run(model, x[:1]).values()
                if not np.array_equal(found, answer):
                    problems.append("another answer")
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work_on) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = os.fstat(2), dict(os.environ)
    if (before[0].st_dev, before[0].st_ino) != (after[0].st_dev, after[0].st_ino):
        problems.append("stderr is another file")
    if before[1] != after[1]:
        problems.append("the environment has changed")
    if problems:
        sys.stderr.write(f"tfslim: error: {problems[0]}\n")
    print(f"{16 * rounds} files")
    return bool(problems)


def _in_a_row(inputs: Path, models: int) -> int:
    """Builds, prunes, converts and quantizes one model after another."""
    import keras

    import tfslim

    x = np.random.default_rng(0).random((4, 16, 16, 3)).astype("float32")
    memory = []
    for number in range(models):
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((16, 16, 3)),
                layers.Conv2D(16 + number % 7, 3, activation="relu"),
                layers.Conv2D(16, 3, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(4),
            ]
        )
        smaller, _ = tfslim.prune_channels(model, pruning_ratio=0.5)
        done = tfslim.convert_model(smaller)
        tfslim.quantize_tflite(done.tflite, "int8", samples=[r[None] for r in x])
        del model, smaller, done
        gc.collect()
        memory.append(_resident())
    growth = max(memory[10:]) / memory[9] - 1
    print(f"{growth:+.1%} of memory after the tenth")
    if growth > 0.05:
        sys.stderr.write(f"tfslim: error: memory grew by {growth:.1%}\n")
        return 1
    return 0


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def _same_files(folder: Path) -> ledger.Row:
    """Exports in new processes with other hash seeds: the same bits."""
    row = ledger.Row("determinism: the same export in new processes")
    seen = set()
    for seed in ("1", "2", "3"):
        place = folder / f"seed{seed}"
        shutil.copytree(folder / "inputs", place)
        argv = ["--model=model0.keras", "--epochs=2", *work.EXPORT]
        done = subprocess.run(
            [sys.executable, "-m", "tfslim.export", *argv],
            cwd=place,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            row.add(done.stderr.splitlines()[-1])
            continue
        digest = hashlib.sha256()
        for name, data in sorted(work.contents(place / "out").items()):
            digest.update(name.encode() + data)
        seen.add(digest.hexdigest())
        row.add(None if len(seen) == 1 else "other files than before")
    return row
