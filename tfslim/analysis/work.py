"""What each op of a `.tflite` computes, holds and moves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tfslim import ops, tflite
from tfslim.benchmark.costs import spec as spec_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Of one run of an op at the file's batch size.

    Attributes:
        params: constants that it multiplies or adds, elements of them.
        macs: multiply-accumulates, 1 MAC = 2 FLOPs; None where they are not known.
        weight_bytes: of its constants as the file stores them.
        activation_bytes: of what it reads and writes besides.
    """

    params: int
    macs: int | None
    weight_bytes: int
    activation_bytes: int

    @property
    def intensity(self) -> float | None:
        """Multiply-accumulates for each byte that it moves; None: not known."""
        moved = self.weight_bytes + self.activation_bytes
        return None if self.macs is None or not moved else self.macs / moved


def work_of(
    op: tflite.Op, graph: tflite.Graph, *, graphs: Sequence[tflite.Graph] = ()
) -> Work:
    """Counts one op; one that only unpacks constants does no work.

    Args:
        op: the op.
        graph: its graph.
        graphs: all graphs of the file: of a loop the body is counted as often as it
            runs, where its condition compares a counter with a constant.
    """
    if spec_lib.is_unpacking(op, graph):
        return Work(params=0, macs=0, weight_bytes=0, activation_bytes=0)
    params = weights = moved = 0
    for index in dict.fromkeys(op.inputs):
        if index < 0:
            continue
        tensor, stored = graph.tensors[index], graph.stored(index)
        is_real = "float" in tensor.dtype or stored.quantization is not None
        if not stored.is_constant:
            moved += _num_bytes(tensor)
        elif is_real or tensor.size > spec_lib.FEW:
            params += tensor.size
            weights += _num_bytes(stored)
    moved += sum(_num_bytes(graph.tensors[i]) for i in op.outputs if i >= 0)
    return Work(
        params=params,
        macs=_macs(op, graph, graphs=graphs),
        weight_bytes=weights,
        activation_bytes=moved,
    )


def _num_bytes(tensor: tflite.Tensor) -> int:
    if tensor.raw is not None:
        return len(tensor.raw)
    return -(-tensor.size * spec_lib.bits(tensor.dtype) // 8)


def _macs(
    op: tflite.Op, graph: tflite.Graph, *, graphs: Sequence[tflite.Graph]
) -> int | None:
    if op.name == "WHILE" and graphs:
        return _of_loop(op, graph, graphs=graphs)
    if op.is_custom or op.name.startswith("STABLEHLO") or _calls_graphs(op):
        return None
    if op.name in ops.WEIGHTS:
        return _of_kernel(op, graph)
    if op.name == "CONV_3D_TRANSPOSE":
        *_, outputs, _ = graph.tensors[op.inputs[1]].shape
        source, kernel = graph.tensors[op.inputs[2]], graph.tensors[op.inputs[1]]
        return source.size * kernel.size // max(source.shape[-1], 1) if outputs else 0
    if op.name == "BATCH_MATMUL":
        inner = graph.tensors[op.inputs[0]].shape
        depth = inner[-2] if op.options.adjX else inner[-1]
        return graph.tensors[op.outputs[0]].size * depth
    if op.name in ops.tflite("stateful"):
        return _of_steps(op, graph)
    return 0


def _calls_graphs(op: tflite.Op) -> bool:
    """Whether an op runs other graphs of the file: its options have their numbers."""
    names = () if op.options is None else vars(op.options)
    return any("subgraph" in name.lower() for name in names)


def _of_kernel(op: tflite.Op, graph: tflite.Graph) -> int | None:
    place = ops.WEIGHTS[op.name]
    source, kernel = (graph.tensors[op.inputs[i]] for i in (place.input, place.kernel))
    output = graph.tensors[op.outputs[0]]
    if not kernel.shape or not output.shape:
        return None
    if op.name == "TRANSPOSE_CONV":  # Each input position takes the whole kernel.
        return source.size * kernel.size // max(source.shape[-1], 1)
    per_output = kernel.size // max(kernel.shape[place.output_axis], 1)
    return output.size * per_output


def _of_steps(op: tflite.Op, graph: tflite.Graph) -> int | None:
    """Counts a recurrent op: every matrix once a step, for each sample."""
    source = graph.tensors[op.inputs[0]].shape
    matrices = [
        graph.tensors[i].size
        for i in op.inputs[1:]
        if i >= 0 and graph.stored(i).is_constant and len(graph.tensors[i].shape) == 2
    ]
    # Of a sequence: [batch, time, features], or time first; else one step.
    rank = 3 if "SEQUENCE" in op.name else 2
    return (
        math.prod(source[: rank - 1]) * sum(matrices) if len(source) == rank else None
    )


def _of_loop(
    op: tflite.Op, graph: tflite.Graph, *, graphs: Sequence[tflite.Graph]
) -> int | None:
    condition, body = (
        graphs[i] for i in (op.options.condSubgraphIndex, op.options.bodySubgraphIndex)
    )
    others = [g for g in graphs if g is not graph]  # A loop in itself has no end.
    once = [_macs(inner, body, graphs=others) for inner in body.ops]
    turns = _turns(op, graph, condition=condition)
    if turns is None or None in once:
        return None
    return turns * sum(macs for macs in once if macs is not None)


def _turns(
    op: tflite.Op, graph: tflite.Graph, *, condition: tflite.Graph
) -> int | None:
    """Returns how often a loop runs: the least limit that a counter has."""
    places = {tensor.index: place for place, tensor in enumerate(condition.inputs)}
    found = []
    for inner in condition.ops:
        if inner.name != "LESS":
            continue
        limit = condition.tensors[inner.inputs[1]].data
        place = places.get(inner.inputs[0])
        start = None if place is None else graph.tensors[op.inputs[place]].data
        if limit is not None and start is not None and limit.size == start.size == 1:
            found.append(int(limit.reshape(-1)[0]) - int(start.reshape(-1)[0]))
    return min(found, default=None)
