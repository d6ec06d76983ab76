"""What a runner returns, whichever device it drove."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import errors, settings

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(settings.Timing):
    """How often, and on what, a file is run.

    A file gets `num_runs` timed inferences and `min_secs` seconds of them, whichever
    takes longer, dealt out over `rounds`; every round runs all files in turns (A B, B
    A, A B ...; on the host several short turns a round), so that heat and frequency
    drift hit them alike. A round loads each file anew and first runs it untimed,
    `warmup_runs` times and `warmup_secs` seconds; on the host the full warm-up is the
    first round's, later ones have 10 ms, and of several files each has an untimed
    run before its turn.

    `delegate` runs what it can; "none" leaves all to the builtin kernels.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyStats:
    """Latency of one inference in microseconds, warm-up excluded.

    What a runner cannot know is None, never 0.
    """

    num_runs: int
    mean: float
    std: float | None
    min: float
    p25: float | None = None
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
        p25, p50, p90, p99 = np.percentile(values, [25, 50, 90, 99])
        return cls(
            num_runs=values.size,
            mean=float(values.mean()),
            std=float(values.std(ddof=1)) if values.size > 1 else None,
            min=float(values.min()),
            p25=float(p25),
            p50=float(p50),
            p90=float(p90),
            p99=float(p99),
        )

    @classmethod
    def from_rounds(cls, rounds: Sequence[LatencyStats]) -> LatencyStats:
        """Joins the figures of several rounds whose single latencies are not known.

        Mean and standard deviation are those of all runs together; percentiles cannot
        be had, but for the median, which is the median of the rounds' medians.
        """
        counts = np.array([part.num_runs for part in rounds])
        means = np.array([part.mean for part in rounds])
        mean = float(np.average(means, weights=counts))
        within = sum((p.num_runs - 1) * (p.std or 0.0) ** 2 for p in rounds)
        between = float((counts * (means - mean) ** 2).sum())
        total = int(counts.sum())
        medians = [part.p50 for part in rounds if part.p50 is not None]
        return cls(
            num_runs=total,
            mean=mean,
            std=((within + between) / (total - 1)) ** 0.5 if total > 1 else None,
            min=min(part.min for part in rounds),
            p50=float(np.median(medians)) if len(medians) == len(rounds) else None,
        )

    @property
    def typical(self) -> float:
        """The median where it is known, else the mean."""
        return self.mean if self.p50 is None else self.p50


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpTime:
    """Latency of one op in microseconds; None if it could not be timed.

    `name` is that of the op's first output tensor, `op` the kind ("CONV_2D").
    """

    index: int
    op: str
    name: str
    latency_us: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Timing of one file on one device.

    Attributes:
        name: what the caller calls the file, e.g. "int8".
        sha256: of the file, hexadecimal.
        size_bytes: of the file; `gzip_bytes` of what an app store would transfer.
        runner: "host" or "android".
        environment: device, CPU, operating system, versions: the figure's conditions.
        latency: of all rounds; `by_round` has the same figures of each round.
        init_us: loading the file and preparing it, up to the first inference.
        peak_memory_bytes: growth of the process by loading and running the file; on
            Android what `benchmark_model` reports.
        partitions: pieces that the delegate runs each in one go; 0: it runs nothing.
        delegated_ops, other_ops: operations inside and outside the delegate;
            `outside` names those outside, with their number.
        ops: where the time goes, by op; `ops_source` says how it was measured.
        invalid: why the figures should not be trusted, by short name; empty if
            nothing speaks against them.
        samples_us: single latencies by round; empty where the runner has none.
    """

    name: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    runner: str
    environment: Mapping[str, Any]
    options: Options
    latency: LatencyStats
    by_round: Sequence[LatencyStats] = ()
    init_us: float | None = None
    peak_memory_bytes: int | None = None
    partitions: int | None = None
    delegated_ops: int | None = None
    other_ops: int | None = None
    outside: Mapping[str, int] = dataclasses.field(default_factory=dict)
    ops: Sequence[OpTime] = ()
    ops_source: str | None = None
    invalid: Mapping[str, str] = dataclasses.field(default_factory=dict)
    samples_us: Sequence[Sequence[float]] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON data, with the schema's version."""
        content = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        return json.loads(json.dumps(content))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BenchmarkResult:
        """Rebuilds a result from `to_json`'s data.

        Raises:
            ConfigError: the data is of another schema, or no result.
        """
        fields = dict(data) if isinstance(data, Mapping) else {}
        version = fields.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise errors.ConfigError(
                f"A benchmark result of schema {version} cannot be read; this tfslim "
                f"reads schema {SCHEMA_VERSION}. Run the benchmark again."
            )
        try:
            fields["options"] = Options(**fields["options"])
            fields["latency"] = LatencyStats(**fields["latency"])
            fields["by_round"] = [LatencyStats(**part) for part in fields["by_round"]]
            fields["ops"] = [OpTime(**op) for op in fields["ops"]]
            result = cls(**fields)
            result._check()
            return result
        except (KeyError, TypeError) as error:
            raise errors.ConfigError(
                f"This is no complete benchmark result ({error}). Run the benchmark "
                "again."
            ) from error

    def _check(self) -> None:
        """Raises TypeError at fields of JSON that a comparison could not take."""
        if not isinstance(self.name, str) or not isinstance(self.environment, Mapping):
            raise TypeError("name or environment")
        for stats in (self.latency, *self.by_round):
            for value in dataclasses.asdict(stats).values():
                is_number = isinstance(value, int | float) and value >= 0
                if value is not None and not is_number:
                    raise TypeError(f"a latency of {value!r}")
            if not stats.mean:
                raise TypeError("no mean latency")


def describe(data: bytes) -> dict[str, Any]:
    """Returns the fields of a result that are facts about the file itself."""
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        # Level 6 and no time stamp: what `gzip -n` gives, the same every time.
        "gzip_bytes": len(gzip.compress(data, 6, mtime=0)),
    }
