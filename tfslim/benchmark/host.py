"""Times `.tflite` files on this machine with ai-edge-litert and XNNPACK."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import errors, tflite
from tfslim.benchmark import environment, validity
from tfslim.benchmark.result import BenchmarkResult, LatencyStats, Options, describe
from tfslim.tflite import delegate, trial

DELEGATES = ("xnnpack", "none")
_MUCH = 2**30
# Files of more bytes in all are not loaded at the same time.
_LARGE = 2**28
# Inferences of one file before the next one has its turn.
_TURN = 5
# After loading, a core takes as long to come up to speed: up to twice the latency.
_SETTLING_SECS = 0.01

# Runs alone in a new process: memory freed by one file would hide the next one's.
_PEAK_MEMORY = """
import sys
from pathlib import Path
from tfslim.benchmark import host
from tfslim.tflite import trial
def peak():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
before = peak()
data = Path(f"/dev/fd/{sys.argv[1]}").read_bytes()
trial.vouch(data)  # By the process that starts this one.
options = host.Options(num_threads=int(sys.argv[2]), delegate=sys.argv[3])
runner = host.load(data, options)
for _ in range(3):
    runner.invoke()
print(peak() - before)
"""


def load(
    data: bytes, options: Options, *, read: tflite.TfliteModel | None = None
) -> tflite.Runner:
    """Loads a file and fills its inputs with seeded random numbers.

    Latency does not depend on them, as long as they are no denormals or NaNs.
    """
    runner = tflite.Runner(
        data,
        read=read,
        num_threads=options.num_threads,
        xnnpack=options.delegate == "xnnpack",
    )
    random = np.random.default_rng(0)
    inputs = {
        name: draw(random, name, tensor=runner.model.tensors[index])
        for name, index in runner.model.input_names.items()
    }
    runner.set_inputs(inputs)
    return runner


def draw(
    random: np.random.Generator, name: str, *, tensor: tflite.Tensor
) -> np.ndarray:
    """Draws a value for an input: reals in -1..1, whole numbers 0 or 1.

    Raises:
        ConversionError: numpy has no such type, or there is not the memory.
    """
    shape = [abs(size) for size in tensor.shape]
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError as error:
        raise errors.ConversionError(
            f"Input '{name}' is {tensor.dtype}, for which no numbers can be drawn."
        ) from error
    # Within a damaged file a shape may be anything. A number is drawn with 8 bytes.
    needed = 16 * math.prod(shape)
    if needed > _MUCH and needed > (trial.memory_bytes() or math.inf):
        raise errors.ConversionError(
            f"Input '{name}' of shape {shape} takes more memory than is left."
        )
    if dtype.kind == "f":
        return random.uniform(-1, 1, shape).astype(dtype)
    # 0 and 1 are legal for every integer type and table of embeddings.
    return (random.random(shape) > 0.5).astype(dtype)


def run_host(
    models: Mapping[str, bytes], options: Options | None = None
) -> list[BenchmarkResult]:
    """Times each file of `models` (name -> bytes), all interleaved in rounds.

    Within a round the files have short turns, five inferences each; files of more than
    256 MiB in all are run one after another, as they are not loaded together.

    Inputs are random and the same for every run; latency does not depend on them.
    Every round loads each file anew: where its weights happen to lie in memory changes
    its latency, and would be taken for a property of the file.

    Args:
        models: what to time.
        options: how often, and on how many threads.

    Raises:
        BenchmarkError: a file does not load or run.
        ConfigError: a delegate that the host does not have.
    """
    options = options or Options()
    for name, data in models.items():
        check_host(name, data, options=options)
    machine = environment.host() | {"delegate": options.delegate}
    watch = environment.Watch()
    series = {name: _Series() for name in models}
    names = list(models)
    for index in range(min(options.rounds, options.num_runs)):
        for group in _groups(names, models):
            _add_round(
                {n: models[n] for n in group}, series, options=options, index=index
            )
        names.reverse()
    after = {
        "temperature_after_c": environment.temperature_c(),
        "busy_with_others": watch.cores(),
    }
    return [
        _result(
            name, data, options=options, series=series[name], machine=machine | after
        )
        for name, data in models.items()
    ]


def check_host(name: str, data: bytes, *, options: Options) -> None:
    """Loads a file and runs it once.

    Raises:
        BenchmarkError: it does not load or run; names it.
        ConfigError: a delegate that the host does not have.
    """
    if options.delegate not in DELEGATES:
        raise errors.ConfigError(
            f"The host has no delegate '{options.delegate}'. Choose xnnpack or none, "
            "or run on a phone with --android."
        )
    try:
        load(data, options).invoke()
    except errors.ConversionError as error:
        raise errors.BenchmarkError(f"'{name}': {error}") from error


class _Series:
    """What the rounds of one file gave."""

    def __init__(self) -> None:
        self.samples_us: list[list[float]] = []
        self.init_us: list[float] = []
        self._read: tflite.TfliteModel | None = None

    def load(self, data: bytes, options: Options, index: int) -> tflite.Runner:
        """Loads the file for a round, and warms up."""
        start = time.perf_counter()
        # Reading a file takes longer than loading it, and gives the same each time.
        runner = load(data, options, read=self._read)
        self._read = runner.model
        self.init_us.append((time.perf_counter() - start) * 1e6)
        # The first inferences touch new memory; the clock is up after the first round.
        runs, secs = options.warmup_runs, options.warmup_secs
        if index:
            runs, secs = min(runs, 2), min(secs, _SETTLING_SECS)
        time_us(runner, runs, least_secs=secs)
        self.samples_us.append([])
        return runner


def _groups(names: Sequence[str], models: Mapping[str, bytes]) -> list[list[str]]:
    """Returns which files are loaded at the same time: all, or each alone if large."""
    if sum(len(data) for data in models.values()) > _LARGE:
        return [[name] for name in names]
    return [list(names)]


def _add_round(
    models: Mapping[str, bytes],
    series: Mapping[str, _Series],
    *,
    options: Options,
    index: int,
) -> None:
    """Runs the files in short turns: what slows the machine for a while slows all."""
    share, extra = divmod(options.num_runs, options.rounds)
    least, least_us = share + (index < extra), options.min_secs * 1e6 / options.rounds
    loaded = {n: series[n].load(data, options, index) for n, data in models.items()}
    spans = {name: series[name].samples_us[-1] for name in models}
    names = list(models)
    while names:
        for name in names:
            if len(models) > 1:
                # The file before may have driven this one's weights out of the cache.
                time_us(loaded[name], 1, least_secs=0)
            turn = min(_TURN, max(least - len(spans[name]), 1))
            if sum(spans[name]) < least_us:
                turn = _TURN
            spans[name] += time_us(loaded[name], turn, least_secs=0)
        names = [
            name
            for name in reversed(names)
            if len(spans[name]) < least or sum(spans[name]) < least_us
        ]


def time_us(
    runner: tflite.Runner, least_runs: int, *, least_secs: float
) -> list[float]:
    """Runs the model at least so often and so long; returns the latencies in us."""
    invoke, clock = runner.interpreter.invoke, time.perf_counter_ns
    end = clock() + round(least_secs * 1e9)
    spans: list[float] = []
    runs = least_runs
    while runs:
        # One clock call an inference, and nothing else between two.
        stamps = np.empty(runs + 1, np.int64)
        stamps[0] = clock()
        for index in range(1, runs + 1):
            invoke()
            stamps[index] = clock()
        spans += (np.diff(stamps) / 1e3).tolist()
        left_us = (end - clock()) / 1e3
        runs = 0 if left_us <= 0 else max(1, int(left_us / spans[-1]))
    return spans


def _result(
    name: str,
    data: bytes,
    *,
    options: Options,
    series: _Series,
    machine: Mapping[str, Any],
) -> BenchmarkResult:
    by_round = [LatencyStats.from_samples(part) for part in series.samples_us]
    coverage = tflite.coverage(data) if options.delegate == "xnnpack" else None
    return BenchmarkResult(
        name=name,
        **describe(data),
        runner="host",
        environment=machine,
        options=options,
        latency=LatencyStats.from_samples([s for p in series.samples_us for s in p]),
        by_round=by_round,
        init_us=float(np.median(series.init_us)),
        peak_memory_bytes=_peak_memory(data, options),
        partitions=coverage.num_partitions if coverage else 0,
        delegated_ops=coverage.num_delegated if coverage else 0,
        other_ops=len(coverage.outside) if coverage else None,
        outside=delegate.count_names(coverage.outside) if coverage else {},
        invalid=validity.check_rounds(by_round)
        | validity.check_host(machine["busy_with_others"], machine["cores"]),
        samples_us=series.samples_us,
    )


def _peak_memory(data: bytes, options: Options) -> int | None:
    """Returns by how many bytes loading and running the file grows a process."""
    if not hasattr(os, "memfd_create"):
        return None  # Such systems do not say it, either.
    with os.fdopen(os.memfd_create("model.tflite"), "wb") as file:
        file.write(data)
        file.flush()
        handle = file.fileno()
        done = subprocess.run(
            [
                *(sys.executable, "-c", _PEAK_MEMORY, str(handle)),
                *(str(options.num_threads), options.delegate),
            ],
            pass_fds=[handle],
            capture_output=True,
            text=True,
            check=False,
        )
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None
