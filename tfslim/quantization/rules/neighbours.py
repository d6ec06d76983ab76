"""Ops that stay float because of what stands around them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import evaluation, ops, tflite
from tfslim.quantization import backend, tables
from tfslim.quantization.rules.kept_float import Exemption, scope
from tfslim.quantization.rules.recipe import deciding

_JOINS = ops.tflite("joining")
# Ops that hand values on: behind them one scale holds for all that was joined.
_MOVES = ops.tflite("reshaping", "transposing", "slicing", "joining")
# Constants of an op that count as weights: 1 kB.
_MANY = 256

Ranges = Mapping[str, tuple[float, float]]


def unlike_parts(graph: tflite.Graph, ranges: Ranges) -> list[Exemption]:
    """Finds concatenations at the end whose parts differ in scale by more than 64.

    Boxes in pixels beside scores in 0..1, as YOLO's files have them: one scale for both
    makes every score 0. What only moves their values on to an output stays float, too.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
    """
    found: dict[int, Exemption] = {}

    def follow(index: int, behind: list[tflite.Op]) -> None:
        """Follows an output back through what moves values."""
        op = graph.producers.get(index)
        if op is None or op.name not in _MOVES:
            return
        path = [*behind, op]
        joined = op.inputs if op.name in _JOINS else op.inputs[:1]
        if op.name in _JOINS:
            sizes = [
                s for s in (_size(i, graph, ranges=ranges) for i in joined) if s > 0.0
            ]
            if sizes and max(sizes) > evaluation.UNLIKE * min(sizes):
                reason = (
                    f"Its parts reach from {min(sizes):.3g} to {max(sizes):.3g} and "
                    "are given out: one INT8 scale would lose the small ones."
                )
                for moved in path:
                    found.setdefault(moved.index, Exemption.of(moved, graph, reason))
        for source in joined:
            follow(source, path)

    for tensor in graph.outputs:
        follow(tensor.index, [])
    return [found[index] for index in sorted(found)]


def _size(index: int, graph: tflite.Graph, *, ranges: Ranges) -> float:
    """Returns the largest magnitude of a part; 0 where it is not known."""
    tensor = graph.tensors[index]
    if tensor.dtype != "float32":
        return 0.0
    if tensor.data is not None:
        return float(np.abs(tensor.data).max(initial=0.0))
    low, high = ranges.get(tensor.name, (0.0, 0.0))
    return max(-low, high)


def shared_weights(
    graph: tflite.Graph, rules: Sequence[Mapping[str, Any]]
) -> list[Exemption]:
    """Finds ops whose weights another op reads, too, which stays float.

    An embedding's table may be the weights of the last layer. The file would hold them
    twice, and be larger than the float one.
    """
    readers: dict[int, list[tflite.Op]] = {}
    for op in graph.ops:
        for tensor in (graph.tensors[i] for i in op.inputs if i >= 0):
            is_weight = tensor.dtype == "float32" and len(tensor.shape) > 1
            if is_weight and tensor.raw is not None:
                readers.setdefault(tensor.raw.ctypes.data, []).append(op)
    found = []
    for sharing in readers.values():
        floats = [op for op in sharing if not _is_quantized(op, graph, rules=rules)]
        if not floats:
            continue
        reason = (
            f"{floats[0].name} reads its weights, too, and stays float: one copy is "
            "smaller."
        )
        found += [Exemption.of(op, graph, reason) for op in sharing if op not in floats]
    return found


def _is_quantized(
    op: tflite.Op, graph: tflite.Graph, *, rules: Sequence[Mapping[str, Any]]
) -> bool:
    rule = deciding(rules, op.name, scope=scope(op, graph))
    if op.name in ops.tflite("recurrent"):
        return rule is not None
    if rule is not None and rule["algorithm_key"] == "float_casting":
        return tables.is_table(op, graph) or backend.takes(rule, op.name)
    return rule is not None and backend.takes(rule, op.name)


def islands(
    graph: tflite.Graph,
    rules: Sequence[Mapping[str, Any]],
    *,
    io: str,
    own: Collection[str] = (),
) -> list[Exemption]:
    """Finds ops without weights that only ops in float surround.

    INT8 there costs two borders and levels, and gains nothing: of exp(x) + 1 before a
    logarithm the 1 would be lost.

    Args:
        graph: the float model's graph.
        rules: in litert-quantizer's order.
        io: what becomes of inputs and outputs.
        own: names of the first outputs of ops that are made INT8 without it.
    """
    quantized = {
        op.index
        for op in graph.ops
        if graph.name_of(op) in own or _is_quantized(op, graph, rules=rules)
    }
    ends = (
        {t.index for t in (*graph.inputs, *graph.outputs)} if io != "float" else set()
    )
    left = {i for i in quantized if not _holds_weights(graph.ops[i], graph)}
    while True:
        kept = {
            index
            for index in left
            if not ends & {*graph.ops[index].inputs, *graph.ops[index].outputs}
            and not (_neighbours(graph.ops[index], graph) & quantized) - left
        }
        if kept == left:
            break
        left = kept
    reason = "All ops around it are float: integers would cost two borders."
    return [Exemption.of(graph.ops[index], graph, reason) for index in sorted(left)]


def _holds_weights(op: tflite.Op, graph: tflite.Graph) -> bool:
    """Whether integers make the file smaller: it has a kernel or a table."""
    tensors = [graph.tensors[i] for i in op.inputs if i >= 0]
    return op.name in ops.WEIGHTS or any(
        t.is_constant and t.dtype == "float32" and t.size >= _MANY for t in tensors
    )


def _neighbours(op: tflite.Op, graph: tflite.Graph) -> set[int]:
    before = [graph.producers[i].index for i in op.inputs if i in graph.producers]
    after = [r.index for i in op.outputs for r in graph.consumers.get(i, [])]
    return {*before, *after}
