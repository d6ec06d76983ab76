"""Puts y = x @ kernel + bias between a graph's image input and what reads it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.graph import ir, names
from tfslim.graph.editor import Editor

_NAME = "normalization"


def put_in_front(
    graph: ir.Graph, kernel: np.ndarray, *, bias: np.ndarray
) -> tuple[ir.Graph, str]:
    """Returns a graph that takes x where the old one took y = x @ kernel + bias.

    The first convolution takes it over where nothing is padded, or where zeros stay
    zeros: a border of padding is 0 in y, which is no one x where channels have a mean
    of their own. Elsewhere a 1x1 convolution comes first, which is exact, too.

    Args:
        graph: its one input is [n, height, width, channels].
        kernel: [in, out] channels.
        bias: [out].

    Returns:
        The graph, and the name of the layer that computes it now.

    Raises:
        GraphError: it takes something else.
    """
    (source, *others) = graph.input_refs
    shape = graph.shape(source)
    if others or len(shape) != 4 or shape[-1] != kernel.shape[1]:
        raise errors.GraphError(
            f"The model takes {[graph.shape(ref)[1:] for ref in graph.input_refs]}; "
            f"expected one image of {kernel.shape[1]} channels."
        )
    readers = [node for node in graph.nodes if source in node.inputs]
    if len(readers) == 1 and source not in graph.output_refs:
        layer = graph.layer_of(readers[0])
        is_called_once = sum(n.layer == layer.name for n in graph.nodes) == 1
        if is_called_once and _takes_over(layer, bias):
            folded = _folded(layer, kernel, bias=bias)
            return graph.with_layers({layer.name: folded}), layer.name
    return _with_layer(graph, source, kernel=kernel, bias=bias)


def _takes_over(layer: ir.Layer, bias: np.ndarray) -> bool:
    config = layer.config
    if layer.op != "Conv2D" or config.get("groups", 1) != 1:
        return False
    if config.get("data_format") == "channels_first":
        return False
    is_padded = config.get("padding") == "same" and max(config["kernel_size"]) > 1
    return not (is_padded and bias.any())


def _folded(layer: ir.Layer, kernel: np.ndarray, *, bias: np.ndarray) -> ir.Layer:
    """Returns a convolution [height, width, in, out] of x instead of y."""
    old = layer.weights["kernel"].astype(np.float64)
    own: Any = layer.weights.get("bias", 0.0)
    new = np.einsum("io,hwoc->hwic", kernel, old)
    added = np.einsum("o,hwoc->c", bias, old)
    weights = {
        "kernel": new.astype(np.float32),
        "bias": (own + added).astype(np.float32),
    }
    config = {**layer.config, "use_bias": True}
    return dataclasses.replace(layer, weights=weights, config=config)


def _with_layer(
    graph: ir.Graph, source: ir.TensorRef, *, kernel: np.ndarray, bias: np.ndarray
) -> tuple[ir.Graph, str]:
    editor = Editor(graph)
    config = {
        "filters": kernel.shape[1],
        "kernel_size": [1, 1],
        "strides": [1, 1],
        "padding": "valid",
        "use_bias": True,
    }
    weights = {"kernel": kernel[None, None], "bias": bias}
    name = names.free(_NAME, graph.layers)
    for number in range(len(graph.nodes)):
        editor.copy(number)
        if number == source.node:
            args = (editor.moved[source],)
            made = editor.add(
                name, "Conv2D", args, graph.shape(source), config, weights
            )
            editor.moved[source] = made
    return editor.finish(inputs=graph.inputs), name
