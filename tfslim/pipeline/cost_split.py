"""Which ops of an INT8 file stay float because they are measured faster so."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tfslim import benchmark, errors, quantization, tflite
from tfslim.benchmark import android, costs
from tfslim.quantization.quantize import quantize
from tfslim.quantization.rules import graph_outputs, split
from tfslim.quantization.rules.preprocess_model import prepare

OnStep = Callable[[str], None]

# "auto" takes the table of this device where it has all ops, "measure" completes it,
# "android" does so on a phone, "shipped" goes by the table that comes with tfslim.
MODES = ("auto", "measure", "android", "shipped")
# The shapes of an INT8 file do not depend on its ranges.
_FEW = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What stays float for its speed.

    Attributes:
        layers: output tensor of an op -> "float32", for `quantization.Options`.
        reasons: the same tensors -> a sentence.
        notes: what the user should know.
        report: the figures, as JSON; empty where nothing was chosen by cost.
    """

    layers: dict[str, str] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    report: dict[str, Any] = dataclasses.field(default_factory=dict)


def check(mode: str) -> None:
    """Raises ConfigError unless `mode` is one of `MODES` or a table's path."""
    if mode.endswith(".json"):
        costs.read_file(mode)
    elif mode not in MODES:
        raise errors.ConfigError(
            f"--costs must be {', '.join(MODES)} or the .json of a table, got '{mode}'."
        )


def choose(
    model: bytes,
    recipe: quantization.Recipe,
    *,
    options: quantization.Options,
    samples: Iterable[tflite.Inputs] | None,
    mode: str,
    on_step: OnStep = lambda text: None,
) -> Choice:
    """Finds the split of least time between INT8 and float, from measured costs.

    Args:
        model: the float `.tflite`.
        recipe: another than static INT8 has nothing to choose.
        options: where they name layers, these are the choice.
        samples: of which a few are needed; None: nothing is chosen.
        mode: one of `MODES`, or the path of a table.
        on_step: called with a line of text before each step.

    Raises:
        ConfigError: no such mode or table, or no phone.
    """
    is_open = recipe.scheme == "static_int8" and not options.layers
    # What integers alone may stand in leaves no choice.
    is_open = is_open and options.placed.weighs_borders
    if not is_open or samples is None or mode == "shipped":
        return Choice()
    if tflite.read(model).is_quantized:
        return Choice()
    table = _table(mode)
    source = quantization.sized_for_first(prepare(model), samples)
    if mode == "auto":  # Nothing is made where the float ops are not known already.
        own = [piece.key for piece in costs.specs_of(source) if piece is not None]
        if table.missing(own):
            return _unknown(table, len(table.missing(own)))
    full = quantize(
        source,
        recipe,
        options=quantization.Options(calibration="minmax", io=options.io or "float"),
        samples=list(itertools.islice(samples, _FEW)),
    ).tflite
    pair = _Pair(source, full)
    lacking = _complete(table, pair, mode=mode, on_step=on_step)
    if lacking:
        return _unknown(table, lacking)
    return _choice(pair, table, io=options.io or "float")


def _unknown(table: costs.CostTable, lacking: int) -> Choice:
    """Chooses nothing, and says why where the user has measured anything."""
    note = (
        f"{lacking} ops were never timed on this device: what stays float goes by the "
        "shipped table. --costs=measure times them, once."
    )
    return Choice(notes=(note,) if len(table) else ())


def _table(mode: str) -> costs.CostTable:
    if mode.endswith(".json"):
        return costs.read_file(mode)
    if mode == "android":
        return costs.CostTable(costs.phone_device(android.AndroidOptions()))
    return costs.CostTable(costs.this_device(benchmark.Options()))


class _Pair:
    """The float file and the INT8 one, op by op."""

    def __init__(self, source: bytes, full: bytes):
        self.before = tflite.Runner(source).model
        self.after = tflite.Runner(full).model
        self.graph = self.before.graphs[0]
        self.float_specs = costs.specs_of(source, self.before)
        self.integer_specs = costs.specs_of(full, self.after)
        self.sizes = len(source), len(full)
        graph = self.after.graphs[0]
        writers = {
            (op.name, graph_outputs.before_conversion(graph.name_of(op))): op
            for op in graph.ops
        }
        # Op of the float file -> op of the other that computes it in integers.
        self.integer: dict[int, tflite.Op] = {}
        for op in self.graph.ops:
            other = writers.get((op.name, self.graph.name_of(op)))
            if other is not None and self._is_integer(other):
                self.integer[op.index] = other

    def _is_integer(self, op: tflite.Op) -> bool:
        tensors = self.after.tensors
        return tensors[op.outputs[0]].quantization is not None

    def border(self, tensor: int, operation: str) -> costs.OpSpec:
        return costs.border(operation, self.graph.tensors[tensor].shape)

    def pieces(self) -> list[costs.Piece]:
        """Returns all that may have to be timed."""
        found = [spec for spec in (*self.float_specs, *self.integer_specs) if spec]
        for tensor in self.graph.tensors:
            if tensor.dtype == "float32" and not tensor.is_constant:
                found += [
                    self.border(tensor.index, operation)
                    for operation in ("QUANTIZE", "DEQUANTIZE")
                ]
        return found


def _complete(
    table: costs.CostTable, pair: _Pair, *, mode: str, on_step: OnStep
) -> int:
    """Measures what is missing where that is asked for; returns how much is left."""
    pieces = pair.pieces()
    if mode == "measure":
        streams = costs.streaming_share(table, pair.float_specs)
        costs.measure_host(table, pieces, cold=streams > 0, on_step=on_step)
    elif mode == "android":
        costs.measure_android(
            table, pieces, phones=android.AndroidOptions(), on_step=on_step
        )
    return len(table.missing(piece.key for piece in pieces))


def _choice(pair: _Pair, table: costs.CostTable, *, io: str) -> Choice:
    found = _split_costs(pair, table, io=io)
    best = split.least_time(pair.graph, found)
    kept = [op for op in pair.graph.ops if op.index in found.integer_us]
    kept = [op for op in kept if op.index not in best.integer]
    reasons = {
        pair.graph.name_of(op): _reason(
            found.float_us[op.index], found.integer_us[op.index]
        )
        for op in kept
    }
    report = {
        "device": table.device.identity,
        "algorithm": "minimum cut",
        "predicted_us": {
            "float": best.all_float_us,
            "all_int8": best.all_integer_us,
            "chosen": best.us,
        },
        "int8_ops": len(best.integer),
        "float_ops_by_cost": len(kept),
    }
    return Choice(
        layers=dict.fromkeys(reasons, "float32"),
        reasons=reasons,
        notes=tuple(_notes(best, len(kept), cpu=table.device.cpu)),
        report=report,
    )


def _split_costs(pair: _Pair, table: costs.CostTable, *, io: str) -> split.SplitCosts:
    streams = costs.streaming_share(table, pair.float_specs)
    integer_streams = costs.streaming_share(table, pair.integer_specs)
    float_us: dict[int, float] = {}
    integer_us: dict[int, float] = {}
    # What the writer of a tensor takes more where its reader is of the other kind.
    apart_us: dict[tuple[int, str], float] = {}
    for op, spec in zip(pair.graph.ops, pair.float_specs, strict=True):
        own = costs.op_us(table, spec, streaming=streams) if spec else None
        float_us[op.index] = own or 0.0
        if op.index not in pair.integer:
            continue
        other = pair.integer_specs[pair.integer[op.index].index]
        us = costs.op_us(table, other, streaming=integer_streams) if other else None
        if own is None or us is None:
            own = us = 0.0  # Nothing speaks for either.
        if costs.is_fused(table, op, graph=pair.graph):
            apart_us[op.outputs[0], "QUANTIZE"], own = own, 0.0
        if costs.is_fused(table, pair.integer[op.index], graph=pair.after.graphs[0]):
            apart_us[op.outputs[0], "DEQUANTIZE"], us = us, 0.0
        float_us[op.index], integer_us[op.index] = own, us

    def border_us(tensor: int, operation: str) -> float:
        own = costs.op_us(table, pair.border(tensor, operation)) or 0.0
        return own + apart_us.get((tensor, operation), 0.0)

    ends = (*pair.graph.inputs, *pair.graph.outputs)
    fixed = {tensor.index: io != "float" for tensor in ends}
    return split.SplitCosts(
        float_us=float_us, integer_us=integer_us, border_us=border_us, fixed=fixed
    )


def _reason(float_us: float, integer_us: float) -> str:
    if float_us <= integer_us:
        return (
            f"Measured here: {float_us:.1f} us in float, {integer_us:.1f} us in INT8."
        )
    return (
        f"Measured here: {float_us:.1f} us in float, {integer_us:.1f} us in INT8, and "
        "the conversions around it cost more."
    )


def _notes(best: split.Split, kept: int, *, cpu: str) -> Iterable[str]:
    if not best.integer:
        yield (
            f"INT8 cannot win on this device ({cpu}): {best.all_float_us:,.0f} us in "
            f"float, {best.all_integer_us:,.0f} us in INT8 by the measured ops. The "
            "float32 file is the faster one; for a small file take --costs=shipped, or "
            "--recipe=dynamic_int8."
        )
    elif kept:
        yield (
            f"{kept} ops stay float because they are measured faster so: predicted "
            f"{best.us:,.0f} us, {best.all_integer_us:,.0f} us with them in INT8, "
            f"{best.all_float_us:,.0f} us in float. --costs=shipped makes the smallest "
            "file."
        )


def with_reasons(kept: Sequence[Any], reasons: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the rows of what stayed float, with the measured reasons."""
    rows = [dataclasses.asdict(row) for row in kept]
    for row in rows:
        row["reason"] = reasons.get(row["tensor"], row["reason"])
    return rows
