"""Ranges in the form that litert-quantizer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import tflite
from tfslim.quantization.ranges.collect import activations
from tfslim.quantization.rules import weight_ranges


def handover(
    graph: tflite.Graph,
    ranges: Mapping[str, tuple[float, float]],
    ordered: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Puts ranges into the shape that litert-quantizer multiplies with tensors.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
        ordered: the rules that they are for.
    """
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    alive = {
        name: bounds if any(bounds) else (0.0, 1.0) for name, bounds in ranges.items()
    }
    for tensor in activations(graph):
        shape = (1,) * len(tensor.shape)
        low, high = alive[tensor.name]
        values[tensor.name] = np.full(shape, low), np.full(shape, high)
    for name, bound in weight_ranges.weight_ranges(graph, alive, ordered).items():
        values[name] = -bound, bound
    return values
