"""The value of every tensor in a Keras model, for one input."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim.graph import ir, keras

_ENDS = ("Input", "Constant")


def probe(
    model: Any,
) -> tuple[
    ir.Graph, Callable[[Sequence[np.ndarray]], Mapping[ir.TensorRef, np.ndarray]]
]:
    """Reads a model and opens all its tensors.

    Args:
        model: a built model of either Keras.

    Returns:
        Its graph, and a function from one array for each input, in the graph's order,
        to the value of every tensor. It runs as in inference.

    Raises:
        GraphError: as `tfslim.graph.keras.read` and `write`.
    """
    graph = keras.read(model)
    inner = [
        ir.TensorRef(number, port)
        for number, node in enumerate(graph.nodes)
        if graph.layer_of(node).op not in _ENDS
        for port in range(len(node.shapes))
    ]
    opened = keras.write(
        dataclasses.replace(graph, outputs=inner), keras.keras_of(model)
    )

    to_array = np.asarray
    if keras.backend_of(model) != "tensorflow":
        to_array = importlib.import_module("keras.ops").convert_to_numpy

    def run(inputs: Sequence[np.ndarray]) -> dict[ir.TensorRef, np.ndarray]:
        found = dict(zip(graph.input_refs, inputs, strict=True))
        values = opened(ir.substitute(graph.inputs, found), training=False)
        arrays = values if isinstance(values, list | tuple) else [values]
        found |= {r: to_array(v) for r, v in zip(inner, arrays, strict=True)}
        return found

    return graph, run
