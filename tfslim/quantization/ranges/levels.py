"""Inputs that are left few of INT8's levels, as they come or once normalized.

A model that normalizes its own input, in a Rescaling layer say, does it once more to
samples that are normalized already. In float that costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from tfslim import ops, preprocessing, tflite
from tfslim.preprocessing import Range
from tfslim.quantization.layers.layer_names import LayerNames

# Ops that normalize, and what may stand between them.
_LEADING = ops.tflite("additive", "scaling", "converting", "reshaping", "transposing")
_TINY = np.finfo(np.float32).tiny


def narrow_inputs(
    model: tflite.TfliteModel,
    ranges: Mapping[str, Range],
    *,
    kept_float: Collection[str] = (),
) -> list[tuple[str, str]]:
    """Finds the inputs of a float model that INT8 has few levels for.

    Args:
        model: the float file.
        ranges: tensor name -> the range of its values.
        kept_float: tensors that ops write which stay float, and so lack no levels.

    Returns:
        For each such input the layer or tensor that is left few, and a line about it.
    """
    graph, names = model.graphs[0], LayerNames(model)
    quantized = [op for op in graph.ops if graph.name_of(op) not in kept_float]
    read_as_int8 = {index for op in quantized for index in op.inputs}
    # Tensor -> the input that it is made of, and by what that is multiplied.
    source = {tensor.index: (tensor.index, 1.0) for tensor in graph.inputs}
    given = {index: ranges.get(graph.tensors[index].name) for index in source}
    found: dict[int, tuple[str, str]] = {}
    for index, seen in given.items():
        span = 0.0 if seen is None else seen[1] - seen[0]
        if seen and index in read_as_int8 and preprocessing.has_few_levels(span, seen):
            text = preprocessing.narrow_text("", seen, given=seen, span=span)
            found[index] = graph.tensors[index].name, text
            del source[index]
    for op in graph.ops:
        read = [i for i in op.inputs if i >= 0 and graph.constant(i) is None]
        if op.name not in _LEADING or len(read) != 1 or read[0] not in source:
            continue
        index, (start, factor) = op.outputs[0], source[read[0]]
        factor *= _factor(op, graph)
        source[index] = start, factor
        seen = ranges.get(graph.tensors[index].name)
        # What an input of integers is cast to has the first range.
        given[start] = before = given[start] or seen
        if seen is None or before is None:
            continue
        # Channels with a mean of their own lie apart; each is as wide as it is.
        span = min(seen[1] - seen[0], factor * (before[1] - before[0]))
        if index in read_as_int8 and preprocessing.has_few_levels(span, seen):
            layer = names.first(op) or graph.tensors[index].name
            text = preprocessing.narrow_text(layer, seen, given=before, span=span)
            found[start] = layer, text
    return list(found.values())


def _factor(op: tflite.Op, graph: tflite.Graph) -> float:
    """Returns by what an op multiplies its input, at most."""
    constants = [graph.constant(i) for i in op.inputs if i >= 0]
    sizes = [np.abs(c) for c in constants if c is not None]
    if op.name == "MUL":
        return float(sizes[0].max())
    is_divisor = op.name == "DIV" and constants[0] is None
    return float(1 / max(sizes[0].min(), _TINY)) if is_divisor else 1.0
