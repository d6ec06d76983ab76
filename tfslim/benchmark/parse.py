"""Reads what LiteRT's `benchmark_model` prints, in the formats from 2019 to today."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

from tfslim import errors
from tfslim.benchmark.result import LatencyStats, OpTime

_NUMBER = r"[-+.\deE]+"
_RUNNING = "Running benchmark for"
_STATS = re.compile(rf"(\w+)=({_NUMBER})")
# Since 2020 "Inference timings in us: Init: 372, First inference: ..., Inference (avg):
# ..."; before "Average inference timings in us: Warmup: ..., Init: ..., no stats: ...".
_TIMINGS = re.compile(r"[Ii]nference timings in us: (.*)")
_TIMING = re.compile(rf"([A-Za-z][\w ()]*): ({_NUMBER})")
# What LiteRT 2's tool prints instead, after "BENCHMARK RESULTS".
_RESULT = re.compile(
    rf"(Model initialization|Warmup \(first\)|First inference): +({_NUMBER}) ms"
)
_RESULT_NAMES = {"Model initialization": "Init", "Warmup (first)": "First inference"}
_PEAK = re.compile(rf"(?:Peak memory|Overall footprint): +({_NUMBER}) MB")
_MEMORY = re.compile(
    r"(?:[Pp]eak memory footprint|Memory footprint delta from the start of the tool) "
    rf"\(MB\): init={_NUMBER} overall=({_NUMBER})"
)
_UNKNOWN_FLAGS = re.compile(r"Unconsumed cmdline flags: (.*)")
_APPLIED = re.compile(
    r"[Ee]xplicitly applied (\w+) delegate, and the model graph will be "
    r"(completely|partially) executed by the delegate(?: w/ (\d+) delegate kernels)?"
)
_NOT_APPLIED = re.compile(r"Though (\w+) delegate is explicitly applied, .* not be ex")
_REPLACED = re.compile(
    r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\) node, "
    r"yielding (\d+) partitions"
)
_DEFAULT_XNNPACK = "Created TensorFlow Lite XNNPACK delegate for CPU"
_FAILURES = ("ERROR:", "Failed to", "failed", "E tflite", "not supported")
_SIGNALS = {4: "illegal instruction", 6: "abort", 9: "killed", 11: "segmentation fault"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DelegateUse:
    """What a delegate took of the graph.

    Attributes:
        name: "xnnpack", "gpu", "nnapi", ...
        is_whole: whether it runs the whole graph; None if the tool did not say.
        partitions: its pieces of the graph, 0 if it runs nothing, None if not known.
    """

    name: str
    is_whole: bool | None = None
    partitions: int | None = None
    delegated_ops: int | None = None
    other_ops: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolOutput:
    """One run of `benchmark_model`.

    Attributes:
        init_us: loading and preparing the model.
        first_us: the first inference, if the tool reports it.
        peak_memory_bytes: old tools call it the growth since the start of the tool.
        ops: the op profile, if it was asked for.
        unknown_flags: flags that the tool did not know and ignored.
        is_silent_of_delegates: whether the tool need not say what a delegate runs.
    """

    latency: LatencyStats
    warmup: LatencyStats | None
    init_us: float | None
    first_us: float | None
    peak_memory_bytes: int | None
    delegates: tuple[DelegateUse, ...]
    ops: tuple[OpTime, ...]
    unknown_flags: tuple[str, ...]
    is_silent_of_delegates: bool = False

    def delegate(self, name: str) -> DelegateUse | None:
        """Returns what the delegate called `name` took, None if it took no part."""
        return next((use for use in self.delegates if use.name == name), None)


def parse(text: str, *, exit_code: int = 0, runtime: str = "interpreter") -> ToolOutput:
    """Reads the output of `benchmark_model`, both streams together.

    Args:
        text: what it printed; log prefixes ("INFO: ", logcat's) may stand before lines.
        exit_code: of the tool, as a shell gives it: 128 + number of the signal.
        runtime: whose tool it was: "interpreter", or "compiled" for LiteRT 2, which may
            print its table to Android's log alone.

    Raises:
        BenchmarkError: it did not finish; names the reason it gave.
    """
    lines = [line.rstrip() for line in text.splitlines()]
    timings = dict[str, float]()
    for line in lines:
        if found := _TIMINGS.search(line):
            timings = {k: float(v) for k, v in _TIMING.findall(found[1])}
        elif found := _RESULT.search(line):
            name = _RESULT_NAMES.get(found[1], found[1])
            timings[name] = float(found[2]) * 1e3
    stats = list(_stats(lines))
    is_compiled = runtime == "compiled"
    # Its warm-up and its runs are a series each.
    is_whole = len(stats) == 2 if is_compiled else bool(timings and stats)
    if exit_code or not is_whole:
        raise errors.BenchmarkError(_failure(lines, exit_code))
    pattern = _PEAK if is_compiled else _MEMORY
    memory = [float(found[1]) for line in lines if (found := pattern.search(line))]
    return ToolOutput(
        latency=stats[-1],
        warmup=stats[-2] if len(stats) > 1 else None,
        init_us=timings.get("Init"),
        first_us=timings.get("First inference"),
        peak_memory_bytes=round(memory[-1] * 2**20) if memory else None,
        delegates=_delegates(lines),
        is_silent_of_delegates=is_compiled,
        ops=tuple(_ops(lines)),
        unknown_flags=unknown_flags(text),
    )


def unknown_flags(text: str) -> tuple[str, ...]:
    """Returns the flags that the tool says it did not know."""
    found = _UNKNOWN_FLAGS.search(text)
    return tuple(found[1].split()) if found else ()


def _stats(lines: Sequence[str]) -> Iterator[LatencyStats]:
    """Yields the figures of each series of runs: warm-up, then inference."""
    waiting = False
    for line in lines:
        if _RUNNING in line:
            waiting = True
        elif waiting and "count=" in line:
            waiting = False
            yield _one_stats({key: float(value) for key, value in _STATS.findall(line)})


def _one_stats(values: dict[str, float]) -> LatencyStats:
    # Of a single run, or of runs that all took as long, only the last is printed.
    num_runs, last = int(values["count"]), values["curr"]
    same = 0.0 if num_runs > 1 else None
    return LatencyStats(
        num_runs=num_runs,
        mean=values.get("avg", last),
        std=values.get("std", same),
        min=values.get("min", last),
        p50=values.get("median"),
    )


def _delegates(lines: Sequence[str]) -> tuple[DelegateUse, ...]:
    found: dict[str, DelegateUse] = {}
    for line in lines:
        if match := _REPLACED.search(line):
            name, inside = _delegate_name(match[3]), int(match[1])
            found[name] = DelegateUse(
                name=name,
                is_whole=match[1] == match[2],
                partitions=int(match[4]),
                delegated_ops=inside,
                other_ops=int(match[2]) - inside,
            )
    for line in lines:
        if match := _APPLIED.search(line):
            name, is_whole = match[1].lower(), match[2] == "completely"
            found[name] = dataclasses.replace(
                found.get(name) or DelegateUse(name=name),
                is_whole=is_whole,
                partitions=int(match[3]) if match[3] else 1 if is_whole else None,
            )
        elif match := _NOT_APPLIED.search(line):
            name = match[1].lower()
            found[name] = DelegateUse(name=name, is_whole=False, partitions=0)
    if any(_DEFAULT_XNNPACK in line for line in lines):
        found.setdefault("xnnpack", DelegateUse(name="xnnpack"))
    return tuple(found.values())


def _delegate_name(kind: str) -> str:
    """Turns "TfLiteGpuDelegateV2" into "gpu"; LiteRT 2's NPU has "DispatchDelegate"."""
    name = re.sub(r"^tflite|delegate(v\d+)?$", "", kind.lower())
    if name == "dispatch":
        return "npu"
    return "gpu" if name.startswith(("litert_cl", "litert_gl", "litert_web")) else name


def _ops(lines: Sequence[str]) -> Iterator[OpTime]:
    """Reads the last table in the order of execution: the first is of the start."""
    starts = [i for i, line in enumerate(lines) if "= Run Order =" in line]
    if not starts:
        return
    columns: list[str] = []
    for line in lines[starts[-1] + 1 :]:
        cells = [cell.strip() for cell in line.split("\t")]
        if "[node type]" in cells:
            columns = cells
        elif not columns or len(cells) != len(columns):
            return
        else:
            row = dict(zip(columns, cells, strict=True))
            name, _, index = row["[Name]"].rpartition(":")
            yield OpTime(
                # Old tools do not number the ops.
                index=int(index) if index.isdecimal() else -1,
                op=row["[node type]"],
                name=(name if index.isdecimal() else row["[Name]"]).strip("[]"),
                latency_us=float(row["[avg ms]"]) * 1e3,
            )


def _failure(lines: Sequence[str], exit_code: int) -> str:
    """Says in one line why a run has no figures."""
    spoken = [line for line in lines if line.strip()]
    reasons = [line for line in spoken if any(sign in line for sign in _FAILURES)]
    if exit_code > 128:
        signal = exit_code - 128
        return (
            f"benchmark_model crashed with signal {signal} "
            f"({_SIGNALS.get(signal, 'unknown')}) after '{_last(spoken)}'. A damaged "
            "or truncated .tflite does that: run the file on the host first."
        )
    if reasons:
        return f"benchmark_model failed: {'; '.join(reasons[:2])}"
    if exit_code:
        return (
            f"benchmark_model ended with exit code {exit_code} after '{_last(spoken)}'."
        )
    return (
        f"benchmark_model printed no timings; its last line is '{_last(spoken)}'. It "
        "crashed or was stopped; a damaged or truncated .tflite does that."
    )


def _last(lines: Sequence[str]) -> str:
    return lines[-1].strip() if lines else "(nothing)"
