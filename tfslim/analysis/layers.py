"""Where the time of a `.tflite` goes, op by op, and what bounds it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfslim import benchmark, tflite
from tfslim.analysis import work as work_lib
from tfslim.benchmark import android, costs, host
from tfslim.benchmark.costs import roofline
from tfslim.quantization.layers.layer_names import LayerNames

OnStep = Callable[[str], None]

# An op that takes less than so many calls of the runtime is bound by the calling.
_CALLS = 2.0
_WHOLE_ROUNDS = 5
# A file's weights come out of the memory if that share of them does.
_STREAMING = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One op.

    Attributes:
        index: its place in the order of execution.
        op: its kind.
        layer: Keras layer that it computes, "" where the file does not tell.
        tensor: name of its first output.
        precision: type of what it computes.
        work: what it computes, holds and moves.
        us: its time in the whole file; None where it cannot be timed alone.
        share: of the sum of all ops.
        bound: "compute", "memory", "overhead", or "" where it is not known.
        is_outside: whether it stays outside of the delegate.
        unmeasured: why it has no time.
    """

    index: int
    op: str
    layer: str
    tensor: str
    precision: str
    work: work_lib.Work
    us: float | None
    share: float | None
    bound: str
    is_outside: bool
    unmeasured: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """A whole file.

    Attributes:
        rows: its ops; those that only unpack constants are left out.
        whole_us: measured time of one run; None: it was not measured.
        sum_us: the ops' sum, and the call of the runtime.
        load_us: reading and preparing the file, up to the first run.
        first_us: the first run.
        peaks: the device's roofline.
        device: what the times hold for.
        partitions: pieces that the delegate runs each in one go.
        table: path of the costs.
    """

    rows: tuple[Row, ...]
    whole_us: float | None
    sum_us: float
    load_us: float | None
    first_us: float | None
    peaks: roofline.Peaks | None
    device: dict[str, Any]
    partitions: int
    table: str = ""

    @property
    def macs(self) -> int | None:
        """Of all ops; None where one of them is not known."""
        known = [row.work.macs for row in self.rows]
        return None if None in known else sum(m for m in known if m is not None)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Kinds of the ops whose MACs are not known."""
        return tuple(
            dict.fromkeys(row.op for row in self.rows if row.work.macs is None)
        )


def profile(
    data: bytes,
    *,
    meter: costs.Meter | None = None,
    is_timed: bool = True,
    on_step: OnStep = lambda text: None,
) -> Profile:
    """Measures a file and its ops.

    Args:
        data: the file; a stranger's is tried in a child process first.
        meter: measures ops, here or on a phone; None: here, with the user's table.
        is_timed: whether anything is timed at all.
        on_step: called with a line of text before each step.

    Raises:
        ConversionError: the runtime refuses the file.
    """
    meter = meter or costs.Meter(costs.CostTable(costs.this_device()))
    table = meter.table
    options = benchmark.Options(
        num_threads=table.device.threads, delegate=table.device.delegate
    )
    model = tflite.Runner(data).model
    coverage = tflite.coverage(data) if options.delegate == "xnnpack" else None
    outside = {op.index for op in coverage.outside} if coverage else set()
    specs = costs.specs_of(data, model)
    whole = load = first = peaks = None
    if is_timed:
        peaks = roofline.measure_peaks(meter, on_step)
        pieces = [piece for piece in specs if piece is not None]
        on_step("timing the whole file")
        # Before and after the ops: what slows the machine for a while slows both.
        runs = [] if meter.phones is not None else [_whole(data, options)]
        meter.measure(pieces, cold=costs.streaming_share(table, specs) > 0)
        if meter.phones is None:
            runs.append(_whole(data, options))
            whole, load, first = (min(values) for values in zip(*runs, strict=True))
        else:
            whole, load = _on_phone(data, options, phones=meter.phones)
    found = costs.predict(table, model, specs=specs)
    share = costs.streaming_share(table, specs)
    rows = _rows(
        model, found, table=table, peaks=peaks, outside=outside, streaming=share
    )
    return Profile(
        rows=tuple(rows),
        whole_us=whole,
        sum_us=found.latency_us,
        load_us=load,
        first_us=first,
        peaks=peaks,
        device=table.device.identity,
        partitions=coverage.num_partitions if coverage else 0,
        table=str(table.path),
    )


def _whole(data: bytes, options: benchmark.Options) -> tuple[float, float, float]:
    """Returns the times of a run, of loading, and of the first run, in us."""
    loads, firsts, medians = [], [], []
    for _ in range(_WHOLE_ROUNDS):
        start = time.perf_counter()
        runner = host.load(data, options)
        loads.append((time.perf_counter() - start) * 1e6)
        firsts += host.time_us(runner, 1, least_secs=0)
        medians.append(float(np.median(host.time_us(runner, 3, least_secs=0.05))))
    # As for single ops the least of the rounds' medians: noise only adds time.
    return min(medians), float(np.median(loads)), float(np.median(firsts))


def _on_phone(
    data: bytes, options: benchmark.Options, *, phones: android.AndroidOptions
) -> tuple[float, float | None]:
    """Returns the times of a run and of loading; the tool tells no first run."""
    ((result,),) = android.run_android({"model": data}, [options], android=phones)
    return min(part.typical for part in result.by_round), result.init_us


def _rows(
    model: tflite.TfliteModel,
    found: costs.Prediction,
    *,
    table: costs.CostTable,
    peaks: roofline.Peaks | None,
    outside: set[int],
    streaming: float,
) -> list[Row]:
    graph, names = model.graphs[0], LayerNames(model)
    total = sum(op.us or 0.0 for op in found.ops)
    rows = []
    for op, predicted in zip(graph.ops, found.ops, strict=True):
        if costs.is_unpacking(op, graph):
            continue
        done = work_lib.work_of(op, graph, graphs=model.graphs)
        us = predicted.us
        rows.append(
            Row(
                index=op.index,
                op=op.name,
                layer=names.first(op),
                tensor=graph.name_of(op),
                precision=_precision(op, graph),
                work=done,
                us=us,
                share=us / total if us is not None and total else None,
                bound=_bound(
                    done,
                    us,
                    op=op,
                    graph=graph,
                    table=table,
                    peaks=peaks,
                    streaming=streaming,
                ),
                is_outside=op.index in outside,
                unmeasured=predicted.reason if us is None else "",
            )
        )
    return rows


def _precision(op: tflite.Op, graph: tflite.Graph) -> str:
    dtype = graph.tensors[op.outputs[0]].dtype if op.outputs else "?"
    weights = {
        graph.tensors[i].dtype
        for i in op.inputs
        if i >= 0 and graph.tensors[i].quantization is not None
    }
    if dtype == "float32" and weights and op.name != "DEQUANTIZE":
        return f"dynamic {min(weights)}"
    return dtype


def _bound(
    done: work_lib.Work,
    us: float | None,
    *,
    op: tflite.Op,
    graph: tflite.Graph,
    table: costs.CostTable,
    peaks: roofline.Peaks | None,
    streaming: float,
) -> str:
    """Says which of three takes longest: the call, the arithmetic or the memory."""
    if us is None or peaks is None or done.macs is None:
        return ""
    if us <= _CALLS * (table.overhead.us or 0.0):
        return "overhead"
    is_integer = _precision(op, graph) != "float32"
    speed = peaks.int8_macs_per_us if is_integer else peaks.float_macs_per_us
    cache = table.device.cache_bytes or 0
    weights, activations = done.weight_bytes, done.activation_bytes
    is_stream = streaming > _STREAMING or weights > cache / 2
    slow, fast = peaks.bytes_per_us, peaks.cache_bytes_per_us
    memory = weights / (slow if is_stream else fast)
    memory += activations / (slow if activations > cache / 2 else fast)
    return "compute" if done.macs / speed >= memory else "memory"
