"""Layer normalization over some of its channels: the truth for a cut through it.

A cut changes what a LayerNormalization takes its mean and variance over, so masked
channels are not enough of a reference: the statistics have to leave them out too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfslim.graph import ir
from tfslim.pruning import channels as channels_lib
from tfslim.pruning.rules import base


def reduce_layer_norms(
    graph: ir.Graph, wirings: Sequence[base.Wiring], mask: channels_lib.Mask
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
    rewriter = _Rewriter(graph)
    for number, (node, wiring) in enumerate(zip(graph.nodes, wirings, strict=True)):
        if cut[number]:
            kept = mask[wiring.outputs[0].reshape(-1)]
            rewriter.replace(number, node, kept.astype(np.float32))
        else:
            rewriter.copy(number, node)
    return rewriter.result()


class _Rewriter:
    """Copies a graph node by node and puts functions in the place of some."""

    def __init__(self, graph: ir.Graph):
        self._graph = graph
        self._layers = dict(graph.layers)
        self._nodes: list[ir.Node] = []
        self._moved: dict[ir.TensorRef, ir.TensorRef] = {}

    def copy(self, number: int, node: ir.Node) -> None:
        """Adds a node as it is."""
        args = ir.substitute(node.args, self._moved)
        kwargs = ir.substitute(node.kwargs, self._moved)
        self._nodes.append(dataclasses.replace(node, args=args, kwargs=kwargs))
        for port in range(len(node.shapes)):
            place = ir.TensorRef(len(self._nodes) - 1, port)
            self._moved[ir.TensorRef(number, port)] = place

    def replace(self, number: int, node: ir.Node, kept: ir.Array) -> None:
        """Adds a LayerNormalization's formula over the kept channels."""
        layer = self._graph.layer_of(node)
        name = f"{layer.name}_{number}"

        def call(op: str, *operands: ir.TensorRef) -> ir.TensorRef:
            return self._add(op, name, operands)

        def constant(value: ir.Array | float) -> ir.TensorRef:
            return self._constant(name, np.asarray(value, np.float32))

        def mean(x: ir.TensorRef) -> ir.TensorRef:
            total = self._add("sum", name, (x,), axis=[len(node.shapes[0]) - 1])
            return call("multiply", total, constant(1.0 / kept.sum()))

        inside = constant(kept)
        x = self._moved[node.inputs[0]]
        centered = call("subtract", x, mean(call("multiply", x, inside)))
        centered = call("multiply", centered, inside)
        variance = mean(call("square", centered))
        shifted = call("add", variance, constant(layer.config["epsilon"]))
        y = call("multiply", centered, call("rsqrt", shifted))
        if "gamma" in layer.weights:
            y = call("multiply", y, constant(layer.weights["gamma"] * kept))
        if "beta" in layer.weights:
            y = call("add", y, constant(layer.weights["beta"] * kept))
        self._moved[ir.TensorRef(number)] = y

    def _add(
        self,
        op: str,
        name: str,
        operands: tuple[ir.TensorRef, ...],
        *,
        axis: list[int] | None = None,
    ) -> ir.TensorRef:
        """Adds a function; with `axis` it sums over the last one and keeps it."""
        shapes = [self._nodes[ref.node].shapes[ref.port] for ref in operands]
        # The others are constants, or one number for each position.
        shape = max(shapes, key=lambda each: (len(each), each[-1:]))
        config = {} if axis is None else {"axis": axis, "keepdims": True}
        shape = shape if axis is None else (*shape[:-1], 1)
        layer = ir.Layer(f"{name}_{op}_{len(self._nodes)}", op, config)
        return self._append(layer, operands, shape)

    def _constant(self, name: str, value: ir.Array) -> ir.TensorRef:
        layer = ir.Layer(
            f"{name}_constant_{len(self._nodes)}",
            "Constant",
            weights={"value": value},
            state=frozenset(["value"]),
            trainable=False,
        )
        return self._append(layer, (), value.shape)

    def _append(
        self, layer: ir.Layer, operands: tuple[ir.TensorRef, ...], shape: ir.Shape
    ) -> ir.TensorRef:
        self._layers[layer.name] = layer
        self._nodes.append(ir.Node(layer.name, operands, (shape,)))
        return ir.TensorRef(len(self._nodes) - 1)

    def result(self) -> ir.Graph:
        """Returns the new graph; layers that no node calls any more are gone."""
        called = {node.layer for node in self._nodes}
        return ir.Graph(
            name=self._graph.name,
            layers={n: layer for n, layer in self._layers.items() if n in called},
            nodes=tuple(self._nodes),
            inputs=ir.substitute(self._graph.inputs, self._moved),
            outputs=ir.substitute(self._graph.outputs, self._moved),
        )
