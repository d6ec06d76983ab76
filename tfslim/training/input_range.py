"""Inputs that are normalized already, of a model that normalizes them itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, ops, preprocessing
from tfslim.graph import ir, segment
from tfslim.graph import keras as graph_keras

_SCALES = ops.keras("scaling", "binary")
# What may stand between an input and what scales it.
_BETWEEN = ops.keras("idle", "moving") | {"cast"}


def doubts(model: Any, batches: tf.data.Dataset) -> list[str]:
    """Says where a model's own scaling leaves the first batch few of INT8's levels.

    Args:
        model: of either Keras; of one that is no graph nothing is said.
        batches: (inputs, ...), read only where the model scales its inputs.
    """
    try:
        graph = graph_keras.read(model)
        found = _scaled(graph)
        if not found:
            return []
        values = _by_input(graph, next(iter(batches))[0])
        wanted = [ref for ref, source in found.items() if source in values]
        part, read = segment.between(graph, values, wanted=wanted)
        made = graph_keras.write(part, "tf_keras")([values[ref] for ref in read])
    except errors.GraphError:
        return []
    lines = []
    for ref, output in zip(wanted, tf.nest.flatten(made), strict=True):
        seen, given = _range(output), _range(values[found[ref]])
        # Channels with a mean of their own lie apart; each is as wide as it is.
        channels = np.reshape(output, (-1, output.shape[-1]))
        span = float(np.ptp(channels, axis=0).max())
        if preprocessing.has_few_levels(span, seen):
            layer = graph.nodes[ref.node].layer
            lines.append(preprocessing.narrow_text(layer, seen, given=given, span=span))
    return lines


def _scaled(graph: ir.Graph) -> dict[ir.TensorRef, ir.TensorRef]:
    """Returns the last tensor that only scaling made of an input -> that input."""
    source = {ref: ref for ref in graph.input_refs}
    found = dict[ir.TensorRef, ir.TensorRef]()
    for number, node in enumerate(graph.nodes):
        op = graph.layer_of(node).op
        read = [ref for ref in node.inputs if not _is_constant(graph, ref)]
        if len(read) != 1 or read[0] not in source or op not in _SCALES | _BETWEEN:
            continue
        made, start = ir.TensorRef(number), source[read[0]]
        source[made] = start
        if op in _SCALES:
            found.pop(read[0], None)
            found[made] = start
    return found


def _is_constant(graph: ir.Graph, ref: ir.TensorRef) -> bool:
    return graph.layer_of(graph.nodes[ref.node]).op == "Constant"


def _by_input(graph: ir.Graph, x: Any) -> dict[ir.TensorRef, Any]:
    refs = graph.input_refs
    if isinstance(x, Mapping):
        names = {ref: graph.nodes[ref.node].layer for ref in refs}
        return {ref: x[name] for ref, name in names.items() if name in x}
    return dict(zip(refs, tf.nest.flatten(x), strict=True))


def _range(values: Any) -> tuple[float, float]:
    array = np.asarray(values)
    return float(array.min()), float(array.max())
