"""What a runner returns, whichever device it drove."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import errors

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How often, and on how many threads, a file is run.

    `num_runs` timed inferences a file, dealt out over `rounds`; every round runs all
    files one after another (A B A B ...), so that heat and frequency drift hit them
    alike. Each round first runs a file untimed, `warmup_runs` times in the first.
    """

    num_threads: int = 1
    warmup_runs: int = 5
    num_runs: int = 50
    rounds: int = 10

    def __post_init__(self) -> None:
        for name in ("num_threads", "num_runs", "rounds"):
            if getattr(self, name) < 1:
                raise errors.ConfigError(
                    f"{name} must be at least 1, got {getattr(self, name)}."
                )
        if self.warmup_runs < 0:
            raise errors.ConfigError(
                f"warmup_runs must be 0 or more, got {self.warmup_runs}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyStats:
    """Latency of one inference in microseconds, warm-up excluded.

    What a runner cannot know is None, never 0.
    """

    num_runs: int
    mean: float
    std: float | None
    min: float
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None

    @classmethod
    def from_samples(cls, samples_us: Sequence[float]) -> LatencyStats:
        """Computes all figures from single latencies, in microseconds.

        Percentiles interpolate linearly; the standard deviation is the sample's
        (n - 1), None for one sample.
        """
        values = np.asarray(samples_us, np.float64)
        if values.size == 0:
            raise errors.BenchmarkError("No inference was timed.")
        p50, p90, p99 = np.percentile(values, [50, 90, 99])
        return cls(
            num_runs=values.size,
            mean=float(values.mean()),
            std=float(values.std(ddof=1)) if values.size > 1 else None,
            min=float(values.min()),
            p50=float(p50),
            p90=float(p90),
            p99=float(p99),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Timing of one file on one device.

    Attributes:
        name: what the caller calls the file, e.g. "int8".
        sha256: of the file, hexadecimal.
        size_bytes: of the file; `gzip_bytes` of what an app store would transfer.
        runner: "host" or "adb".
        environment: device, CPU, operating system, versions: the figure's conditions.
        peak_memory_bytes: growth of the process by loading and running the file.
        delegated_ops, other_ops: operations inside and outside the delegate;
            `outside` names those outside, with their number.
        samples_us: single latencies by round, kept for later comparison.
    """

    name: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    runner: str
    environment: Mapping[str, Any]
    options: Options
    latency: LatencyStats
    peak_memory_bytes: int | None = None
    partitions: int | None = None
    delegated_ops: int | None = None
    other_ops: int | None = None
    outside: Mapping[str, int] = dataclasses.field(default_factory=dict)
    samples_us: Sequence[Sequence[float]] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON data, with the schema's version."""
        return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BenchmarkResult:
        """Rebuilds a result from `to_json`'s data.

        Raises:
            ConfigError: the data is of another schema.
        """
        fields = dict(data)
        version = fields.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise errors.ConfigError(
                f"A benchmark result of schema {version} cannot be read; this tfslim "
                f"reads schema {SCHEMA_VERSION}. Run the benchmark again."
            )
        fields["options"] = Options(**fields["options"])
        fields["latency"] = LatencyStats(**fields["latency"])
        return cls(**fields)
