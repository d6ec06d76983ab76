"""Layer normalization over some of its channels: the truth for a cut through it.

A cut changes what a LayerNormalization takes its mean and variance over, so masked
channels are not enough of a reference: the statistics have to leave them out too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfslim.graph import ir
from tfslim.graph.editor import Editor
from tfslim.pruning import channels as channels_lib
from tfslim.pruning.rules import base


def reduce_layer_norms(
    graph: ir.Graph, wirings: Sequence[base.Wiring], *, mask: channels_lib.Mask
) -> ir.Graph:
    """Returns the graph with every cut LayerNormalization over its kept channels.

    Args:
        graph: the masked graph, of the original's shapes.
        wirings: the original's.
        mask: for each label whether it stays.

    Returns:
        The graph in which functions of tensors stand in for these layers; what they
        give for removed channels is 0. Without such layers the graph itself.
    """
    cut = [
        graph.layer_of(node).op == "LayerNormalization"
        and not mask[wiring.outputs[0]].all()
        for node, wiring in zip(graph.nodes, wirings, strict=True)
    ]
    if not any(cut):
        return graph
    editor = Editor(graph)
    for number, wiring in enumerate(wirings):
        if cut[number]:
            kept = mask[wiring.outputs[0].reshape(-1)]
            _replace(editor, number, kept=kept.astype(np.float32))
        else:
            editor.copy(number)
    return editor.finish()


def _replace(editor: Editor, number: int, *, kept: ir.Array) -> None:
    """Adds a LayerNormalization's formula over the kept channels."""
    node = editor.graph.nodes[number]
    layer = editor.graph.layer_of(node)
    shape = node.shapes[0]
    one = (*shape[:-1], 1)  # A number for each position.

    def call(
        op: str, *operands: ir.TensorRef, shape: ir.Shape = shape, **config: Any
    ) -> ir.TensorRef:
        return editor.add(f"{layer.name}_{op}", op, operands, shape, config)

    def constant(value: ir.Array | float) -> ir.TensorRef:
        array = np.asarray(value, np.float32)
        weights = {"value": array}
        name = f"{layer.name}_constant"
        return editor.add(name, "Constant", (), array.shape, {}, weights)

    def mean(x: ir.TensorRef) -> ir.TensorRef:
        total = call("sum", x, shape=one, axis=[len(shape) - 1], keepdims=True)
        return call("multiply", total, constant(1.0 / kept.sum()), shape=one)

    inside = constant(kept)
    x = editor.moved[node.inputs[0]]
    centered = call("subtract", x, mean(call("multiply", x, inside)))
    centered = call("multiply", centered, inside)
    variance = mean(call("square", centered))
    shifted = call("add", variance, constant(layer.config["epsilon"]), shape=one)
    y = call("multiply", centered, call("rsqrt", shifted, shape=one))
    if "gamma" in layer.weights:
        y = call("multiply", y, constant(layer.weights["gamma"] * kept))
    if "beta" in layer.weights:
        y = call("add", y, constant(layer.weights["beta"] * kept))
    editor.moved[ir.TensorRef(number)] = y
