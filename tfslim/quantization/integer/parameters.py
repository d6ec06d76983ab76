"""Scale and zero point of INT8 tensors, and ranges that ops hand on unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops, tflite

Ranges = Mapping[str, tuple[float, float]]

_LEAST, _MOST = -128, 127
# By how much two scales may differ and be one: they come from float32 and float64.
_SLACK = 1e-5


def of_range(low: float, high: float) -> Any:
    """Returns the schema's parameters of an INT8 tensor that holds a range and 0."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if low == high:
        high = 1.0
    scale = (high - low) / (_MOST - _LEAST)
    return make(scale, int(np.clip(round(_LEAST - low / scale), _LEAST, _MOST)))


def make(scale: float, zero_point: int) -> Any:
    """Returns the schema's parameters of real = scale * (q - zero_point)."""
    return schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )


def bounds(parameters: Any) -> tuple[float, float]:
    """Returns the least and the greatest value that INT8 holds with parameters."""
    scale, zero_point = float(parameters.scale[0]), int(parameters.zeroPoint[0])
    return scale * (_LEAST - zero_point), scale * (_MOST - zero_point)


def is_same(one: Any, other: Any) -> bool:
    """Whether integers mean the same with both."""
    first, second = float(one.scale[0]), float(other.scale[0])
    is_scale = abs(first - second) <= _SLACK * max(first, second)
    return is_scale and int(one.zeroPoint[0]) == int(other.zeroPoint[0])


def integers(values: np.ndarray, parameters: Any) -> np.ndarray:
    """Returns the INT8 values that are nearest to reals."""
    steps = np.rint(values / parameters.scale[0]) + parameters.zeroPoint[0]
    return np.clip(steps, _LEAST, _MOST).astype(np.int8)


def handed_on(graph: tflite.Graph, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """Gives what ops hand on with the scale of their input the range of that, too.

    Else a maximum over some axis would be calibrated apart, and need another scale than
    its kernel can give it.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
    """
    found = dict(ranges)
    for op in graph.ops:
        row = ops.TFLITE.get(op.name)
        sources = [graph.tensors[i] for i in op.inputs if i >= 0]
        reals = [t for t in sources if t.dtype == "float32"]
        outputs = [graph.tensors[i].name for i in op.outputs if i >= 0]
        if row is None or row.integer in (None, "own"):
            continue
        if isinstance(row.integer, tuple):
            bound = bounds(make(*row.integer))
        elif len(reals) == 1 and reals[0].name in found:
            bound = found[reals[0].name]
        else:
            continue
        found |= {name: bound for name in outputs if name in found}
    return found
