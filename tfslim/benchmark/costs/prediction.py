"""What a whole file will take, from the costs of its ops.

predicted = overhead + sum over ops of (time alone - 0.9 overhead), and where the
weights do not fit into the last-level cache, a share of what each op loses with its
weights out of the caches. Both shares were chosen by whole files
(benchmarks/results/costs.json): running alone an op also pays for the call, and in a
whole file part of the memory's latency hides behind the op before.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

from tfslim import errors, tflite
from tfslim.benchmark.costs import spec as spec_lib
from tfslim.benchmark.costs.spec import OpSpec, Piece, TensorSpec
from tfslim.benchmark.costs.table import CostTable

_OVERHEAD_SHARE = 0.9
_COLD_SHARE = 0.4
# Weights, as a share of the last-level cache: all stay in it up to the first, none
# from the second on.
_STAYING = (0.15, 1.15)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpPrediction:
    """The share of one op; None where its cost is not known, for `reason`."""

    index: int
    op: str
    name: str
    us: float | None
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted time of a file.

    Attributes:
        latency_us: of one run; that of the known ops alone where some are unknown.
        ops: in order of execution.
    """

    latency_us: float
    ops: tuple[OpPrediction, ...]

    @property
    def unknown(self) -> tuple[OpPrediction, ...]:
        """The ops whose cost is not known."""
        return tuple(op for op in self.ops if op.us is None)


def op_us(table: CostTable, spec: Piece, *, streaming: float = 0.0) -> float | None:
    """Returns what an op adds to the time of a file; None: not known.

    Args:
        table: of the device.
        spec: the op.
        streaming: share of the file's weights that come out of the memory in each run.
    """
    cost = table.get(spec.key)
    if cost is None or cost.us is None:
        return None
    idle = table.overhead
    time = max(cost.us - _OVERHEAD_SHARE * (idle.us or 0.0), 0.0)
    if streaming and cost.cold_us is not None:
        calling = (idle.cold_us or 0.0) - (idle.us or 0.0)
        lost = max(cost.cold_us - cost.us - calling, 0.0)
        time += streaming * _COLD_SHARE * lost
    return time


def specs_of(
    data: bytes, model: tflite.TfliteModel | None = None
) -> list[Piece | None]:
    """Returns what to time for each op of a file's main graph, None where nothing.

    Ops that only unpack constants cost nothing; an op without a spec, such as a custom
    one, is cut out as it is; those that run other graphs cannot be.
    """
    graph = (model or tflite.read(data)).graphs[0]
    found: list[Piece | None] = []
    for op in graph.ops:
        piece: Piece | None = None
        if not spec_lib.is_unpacking(op, graph):
            piece = spec_lib.of_op(op, graph)
            if piece is None:
                with contextlib.suppress(errors.ConfigError):
                    content = tflite.single_op(data, op.index)
                    piece = spec_lib.CutOp(op.name, content)
        found.append(piece)
    return found


def streaming_share(table: CostTable, specs: Sequence[Piece | None]) -> float:
    """Returns the share of a file's weights that do not stay in the last-level cache.

    Activations and others use that cache, too: from 15% of it on weights are lost, and
    all of them where they are 15% larger than it.
    """
    cache = table.device.cache_bytes
    weights = sum(
        tensor.num_bytes
        for spec in specs
        if spec is not None
        for tensor in spec.inputs
        if tensor.kind == "constant"
    )
    if cache is None:
        return 0.0
    low, high = _STAYING
    return min(max((weights / cache - low) / (high - low), 0.0), 1.0)


def predict(
    table: CostTable, model: tflite.TfliteModel, *, specs: Sequence[Piece | None]
) -> Prediction:
    """Predicts the time of a file of those ops.

    Args:
        table: of the device.
        model: the file.
        specs: `specs_of` it.
    """
    graph, share = model.graphs[0], streaming_share(table, specs)
    rows = []
    for op, spec in zip(graph.ops, specs, strict=True):
        us: float | None = None
        reason = ""
        if spec_lib.is_unpacking(op, graph) or is_fused(table, op, graph=graph):
            us = 0.0
        elif spec is None:
            reason = "it runs other graphs of the file"
        else:
            us = op_us(table, spec, streaming=share)
            cost = table.get(spec.key)
            reason = cost.reason if cost else "it was not measured"
        rows.append(
            OpPrediction(
                index=op.index, op=op.name, name=graph.name_of(op), us=us, reason=reason
            )
        )
    total = (table.overhead.us or 0.0) + sum(row.us or 0.0 for row in rows)
    return Prediction(latency_us=total, ops=tuple(rows))


def is_fused(table: CostTable, op: tflite.Op, *, graph: tflite.Graph) -> bool:
    """Whether a table's device does an op within the one behind it, at no cost."""
    return table.device.delegate == "xnnpack" and spec_lib.is_fused_padding(op, graph)


def border(operation: str, shape: tuple[int, ...], *, dtype: str = "int8") -> OpSpec:
    """Returns the op between float and integers: "QUANTIZE" or "DEQUANTIZE"."""
    real = TensorSpec(shape)
    whole = TensorSpec(shape, dtype, scale=0.05)
    ends = ((real,), (whole,)) if operation == "QUANTIZE" else ((whole,), (real,))
    options = "QuantizeOptionsT" if operation == "QUANTIZE" else "DequantizeOptionsT"
    return OpSpec(operation, *ends, (), options)
