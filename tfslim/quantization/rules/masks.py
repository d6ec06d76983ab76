"""Activations that hold a mask: what a softmax is not to see."""

from __future__ import annotations

from collections.abc import Mapping

from tfslim import ops, tflite
from tfslim.quantization.rules.kept_float import MASKING, Exemption

# What a mask adds. In what a softmax reads a value is one, too, that lies so far below
# 0, if it lies so many times farther than anything above.
MASK = 1e9
_FAR_BELOW = 64.0
_TIMES = 8.0
# Ops through which a mask reaches a softmax.
_MOVES = ops.tflite("reshaping", "transposing", "scaling", "additive")


def masked(
    graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]
) -> list[Exemption]:
    """Finds ops that read or write activations with a mask in them.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
    """
    masks = masked_tensors(graph, ranges)
    found = []
    for op in graph.ops:
        names = [graph.tensors[i].name for i in (*op.inputs, *op.outputs) if i >= 0]
        masking = [name for name in names if name in masks]
        if masking:
            low, high = ranges[masking[0]]
            reason = f"Of values from {low:.3g} to {high:.3g} a mask takes all levels."
            found.append(Exemption.of(op, graph, reason))
    return found


def masked_tensors(
    graph: tflite.Graph, ranges: Mapping[str, tuple[float, float]]
) -> list[str]:
    """Names the activations whose range a mask makes; arguments as for `masked`.

    What layers with weights write or read is none: there, large values are values.
    """
    found = []
    for tensor in graph.tensors:
        low, high = ranges.get(tensor.name, (0.0, 0.0))
        is_far = low <= -_FAR_BELOW and -low >= _TIMES * max(high, 1.0)
        is_mask = max(-low, high) >= MASKING or (
            is_far and _reaches_softmax(tensor.index, graph)
        )
        if is_mask and not _meets_weights(tensor.index, graph):
            found.append(tensor.name)
    return found


def _meets_weights(index: int, graph: tflite.Graph) -> bool:
    touching = [*graph.consumers.get(index, []), graph.producers.get(index)]
    return any(op is not None and op.name in ops.WEIGHTS for op in touching)


def _reaches_softmax(index: int, graph: tflite.Graph) -> bool:
    """Whether a softmax reads the tensor, moved perhaps."""
    return any(
        op.name == "SOFTMAX"
        or (op.name in _MOVES and _reaches_softmax(op.outputs[0], graph))
        for op in graph.consumers.get(index, [])
    )
