"""Times `.tflite` files on this machine with ai-edge-litert and XNNPACK."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfslim import errors, tflite
from tfslim.benchmark import environment
from tfslim.benchmark.result import BenchmarkResult, LatencyStats, Options
from tfslim.tflite import delegate

# Runs alone in a new process: memory freed by one file would hide the next one's.
_PEAK_MEMORY = """
import sys
from pathlib import Path
from tfslim.benchmark import host
def peak():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
before = peak()
data = Path(sys.argv[1]).read_bytes()
runner = host.load(data, num_threads=int(sys.argv[2]))
for _ in range(3):
    runner.invoke()
print(peak() - before)
"""


def load(data: bytes, *, num_threads: int) -> tflite.Runner:
    """Loads a file and fills its inputs with seeded random numbers.

    Latency does not depend on them, as long as they are no denormals or NaNs.
    """
    runner = tflite.Runner(data, num_threads=num_threads)
    random = np.random.default_rng(0)
    inputs = {}
    for name, index in runner.model.input_names.items():
        tensor = runner.model.tensors[index]
        shape = [abs(size) for size in tensor.shape]
        # 0 and 1 are legal for every integer type and table of embeddings.
        is_float = np.dtype(tensor.dtype).kind == "f"
        values = (
            random.uniform(-1, 1, shape) if is_float else random.random(shape) > 0.5
        )
        inputs[name] = values.astype(tensor.dtype)
    runner.set_inputs(inputs)
    return runner


def run_host(
    models: Mapping[str, bytes], options: Options | None = None
) -> list[BenchmarkResult]:
    """Times each file of `models` (name -> bytes), all interleaved in rounds.

    Inputs are random and the same for every run; latency does not depend on them.

    Raises:
        BenchmarkError: a file does not load or run.
    """
    options = options or Options()
    runners = {}
    for name, data in models.items():
        try:
            runners[name] = load(data, num_threads=options.num_threads)
            runners[name].invoke()
        except errors.ConversionError as error:
            raise errors.BenchmarkError(f"'{name}': {error}") from error
    machine = environment.host()
    samples: dict[str, list[list[float]]] = {name: [] for name in models}
    per_round = -(-options.num_runs // options.rounds)
    left = options.num_runs
    for round_index in range(options.rounds):
        runs = min(per_round, left)
        for name, runner in runners.items():
            warmup = options.warmup_runs if round_index == 0 else 1
            samples[name].append(_time_us(runner, warmup, runs))
        left -= runs
        if not left:
            break
    return [
        _result(name, data, options, samples[name], machine)
        for name, data in models.items()
    ]


def _time_us(runner: tflite.Runner, warmup: int, runs: int) -> list[float]:
    for _ in range(warmup):
        runner.invoke()
    stamps = np.empty(runs + 1, np.int64)
    invoke, clock = runner.interpreter.invoke, time.perf_counter_ns
    stamps[0] = clock()
    for index in range(1, runs + 1):
        invoke()
        stamps[index] = clock()
    return [float(span) for span in np.diff(stamps) / 1e3]


def _result(
    name: str,
    data: bytes,
    options: Options,
    samples: list[list[float]],
    machine: Mapping[str, object],
) -> BenchmarkResult:
    coverage = tflite.coverage(data)
    return BenchmarkResult(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        # Level 6 and no time stamp: what `gzip -n` gives, the same every time.
        gzip_bytes=len(gzip.compress(data, 6, mtime=0)),
        runner="host",
        environment=machine,
        options=options,
        latency=LatencyStats.from_samples([s for part in samples for s in part]),
        peak_memory_bytes=_peak_memory(data, options.num_threads),
        partitions=coverage.num_partitions,
        delegated_ops=coverage.num_delegated,
        other_ops=len(coverage.outside),
        outside=delegate.count_names(coverage.outside),
        samples_us=samples,
    )


def _peak_memory(data: bytes, num_threads: int) -> int | None:
    """Returns by how many bytes loading and running the file grows a process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", _PEAK_MEMORY, str(path), str(num_threads)],
            capture_output=True,
            text=True,
            check=False,
        )
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None
