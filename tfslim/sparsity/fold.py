"""Batch normalization folded into the layers where the converter cannot do it."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfslim.graph import ir
from tfslim.graph.editor import Editor

# TF-MOT leaves folding after Conv2D and DepthwiseConv2D to the converter, which
# moves the factors into the scales of the channels. These have one scale.
_OUTPUT_AXIS = {"Conv2DTranspose": -2, "Dense": -1}


def fold(graph: ir.Graph) -> ir.Graph:
    """Multiplies batch norms into the transposed convolution or Dense before them.

    The statistics are those of the trained model and no longer change.

    Returns:
        A graph that computes the same at inference.
    """
    uses = [*graph.output_refs, *(r for node in graph.nodes for r in node.inputs)]
    calls = [node.layer for node in graph.nodes]
    editor = Editor(graph)
    for number, node in enumerate(graph.nodes):
        norm = graph.layer_of(node)
        source = node.inputs[0] if node.inputs else None
        if norm.op == "BatchNormalization" and source is not None:
            before = graph.layer_of(graph.nodes[source.node])
            if (
                before.op in _OUTPUT_AXIS
                and before.config.get("activation") in (None, "linear")
                and norm.config["axis"] == -1
                and uses.count(source) == calls.count(before.name) == 1
                and calls.count(norm.name) == 1
            ):
                editor.replace(_folded(before, norm))
                editor.moved[ir.TensorRef(number)] = editor.moved[source]
                continue
        editor.copy(number)
    return editor.finish()


def _folded(layer: ir.Layer, norm: ir.Layer) -> ir.Layer:
    mean, variance = norm.weights["moving_mean"], norm.weights["moving_variance"]
    factor = 1.0 / np.sqrt(variance.astype(np.float64) + norm.config["epsilon"])
    factor = factor * norm.weights.get("gamma", np.ones_like(mean))
    kernel = layer.weights["kernel"]
    shape = [1] * kernel.ndim
    shape[_OUTPUT_AXIS[layer.op]] = -1
    bias = layer.weights.get("bias", np.zeros_like(mean))
    bias = (bias - mean) * factor + norm.weights.get("beta", np.zeros_like(mean))
    weights = {
        "kernel": (kernel * factor.reshape(shape)).astype(kernel.dtype),
        "bias": bias.astype(kernel.dtype),
    }
    config = {**layer.config, "use_bias": True}
    return dataclasses.replace(layer, config=config, weights=weights)
