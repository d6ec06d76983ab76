"""Rebuilding a graph node by node, with changes on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfslim.graph import ir, names


class Editor:
    """A new graph that grows from an old one.

    Attributes:
        graph: the old graph.
        moved: where a tensor of the old graph is in the new one.
    """

    def __init__(self, graph: ir.Graph):
        """Starts with no nodes."""
        self.graph = graph
        self.moved: dict[ir.TensorRef, ir.TensorRef] = {}
        self._layers: dict[str, ir.Layer] = {}
        self._nodes: list[ir.Node] = []

    def copy(self, number: int) -> None:
        """Calls what node `number` of the old graph calls."""
        node = self.graph.nodes[number]
        args, kwargs = ir.substitute((node.args, dict(node.kwargs)), self.moved)
        self.call(self.graph.layer_of(node), args, node.shapes, kwargs)
        self.move(number)

    def call(
        self,
        layer: ir.Layer,
        args: tuple[Any, ...],
        shapes: tuple[ir.Shape, ...],
        kwargs: Mapping[str, Any] | None = None,
    ) -> ir.TensorRef:
        """Calls a layer on tensors of the new graph; returns its first output.

        A layer takes the place of an earlier one of its name.
        """
        self._layers[layer.name] = layer
        self._nodes.append(ir.Node(layer.name, args, shapes, kwargs or {}))
        return ir.TensorRef(len(self._nodes) - 1)

    def move(self, number: int) -> None:
        """Lets the last call's outputs stand for those of node `number`."""
        for port in range(len(self.graph.nodes[number].shapes)):
            ref = ir.TensorRef(len(self._nodes) - 1, port)
            self.moved[ir.TensorRef(number, port)] = ref

    def replace(self, layer: ir.Layer) -> None:
        """Puts a layer in the place of one of its name that was called before."""
        self._layers[layer.name] = layer

    def add(
        self,
        name: str,
        op: str,
        args: tuple[Any, ...],
        shape: ir.Shape,
        config: Mapping[str, Any] | None = None,
        weights: Mapping[str, ir.Array] | None = None,
    ) -> ir.TensorRef:
        """Calls a new layer on tensors of the new graph.

        Args:
            name: of the layer; numbered if the old or the new graph has it.
            op: as in `ir`.
            args: of the call.
            shape: of the only output.
            config: of the layer.
            weights: of the layer.
        """
        taken = {*self._layers, *self.graph.layers}
        layer = ir.Layer(names.free(name, taken), op, config or {}, weights or {})
        return self.call(layer, args, (shape,))

    def reshape(
        self, name: str, x: ir.TensorRef, sides: tuple[int, ...]
    ) -> ir.TensorRef:
        """Calls a new layer that gives a tensor other sides; the batch stays."""
        batch = self.shape(x)[0]
        config = {"shape": [-1 if batch is None else batch, *sides]}
        return self.add(name, "reshape", (x,), (batch, *sides), config)

    def shape(self, ref: ir.TensorRef) -> ir.Shape:
        """Returns the shape of a tensor of the new graph."""
        return self._nodes[ref.node].shapes[ref.port]

    def finish(self, outputs: Any = None, *, inputs: Any = None) -> ir.Graph:
        """Returns the new graph.

        Args:
            outputs: tensors of the new graph; None: where the old outputs are now.
            inputs: the same for what the new graph takes.
        """
        if outputs is None:
            outputs = ir.substitute(self.graph.outputs, self.moved)
        if inputs is None:
            inputs = ir.substitute(self.graph.inputs, self.moved)
        return dataclasses.replace(
            self.graph,
            layers=self._layers,
            nodes=tuple(self._nodes),
            inputs=inputs,
            outputs=outputs,
        )


def without_unused(graph: ir.Graph) -> ir.Graph:
    """Returns the graph without calls that no output needs; inputs stay.

    A nested model brings the calls of outputs that nobody reads along, and a Keras 3
    model those that made a mask.
    """
    needed = {ref.node for ref in graph.input_refs}
    wanted = [ref.node for ref in graph.output_refs]
    while wanted:
        number = wanted.pop()
        if number not in needed:
            needed.add(number)
            wanted += [ref.node for ref in graph.nodes[number].inputs]
    if len(needed) == len(graph.nodes):
        return graph
    editor = Editor(graph)
    for number in sorted(needed):
        editor.copy(number)
    return editor.finish()
