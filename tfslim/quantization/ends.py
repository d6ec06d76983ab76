"""The last concatenation of parts of unlike size, which one INT8 scale would lose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfslim import evaluation, ops, tflite
from tfslim.quantization.rules import policy

_JOINS = ops.tflite("joining")
# Ops that hand values on: behind them one scale holds for all that was joined.
_MOVES = ops.tflite("reshaping", "transposing", "slicing", "joining")


def unlike_parts(
    graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]
) -> list[policy.Exemption]:
    """Finds concatenations at the end whose parts differ in scale by more than 64.

    Boxes in pixels beside scores in 0..1, as YOLO's files have them: one scale for both
    makes every score 0. What only moves their values on to an output stays float, too.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
    """
    found: dict[int, policy.Exemption] = {}
    for tensor in graph.outputs:
        _walk(tensor.index, graph, ranges, [], found)
    return [found[index] for index in sorted(found)]


def _walk(
    index: int,
    graph: tflite.Graph,
    ranges: Mapping[str, tuple[float, float]],
    behind: list[tflite.Op],
    found: dict[int, policy.Exemption],
) -> None:
    """Follows an output back through what moves values.

    Args:
        index: a tensor.
        graph: where it is.
        ranges: as for `unlike_parts`.
        behind: the ops between it and the output.
        found: op -> why it stays float; filled.
    """
    op = graph.producers.get(index)
    if op is None or op.name not in _MOVES:
        return
    path = [*behind, op]
    if op.name in _JOINS:
        sizes = [s for s in (_size(i, graph, ranges) for i in op.inputs) if s > 0.0]
        if sizes and max(sizes) > evaluation.UNLIKE * min(sizes):
            reason = (
                f"Its parts reach from {min(sizes):.3g} to {max(sizes):.3g} and are "
                "given out: one INT8 scale would lose the small ones."
            )
            for moved in path:
                exemption = policy.Exemption.of(moved, graph, reason)
                found.setdefault(moved.index, exemption)
    sources = op.inputs if op.name in _JOINS else op.inputs[:1]
    for source in sources:
        _walk(source, graph, ranges, path, found)


def _size(
    index: int, graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]
) -> float:
    """Returns the largest magnitude of a part; 0 where it is not known."""
    tensor = graph.tensors[index]
    if tensor.dtype != "float32":
        return 0.0
    if tensor.data is not None:
        return float(np.abs(tensor.data).max(initial=0.0))
    low, high = ranges.get(tensor.name, (0.0, 0.0))
    return max(-low, high)
