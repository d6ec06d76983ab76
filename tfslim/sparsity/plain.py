"""Rewrites a graph so that TF-MOT's quantization can take it apart and rebuild it.

TF-MOT serializes a model, matches patterns of layers in the result and builds it
again. It cannot carry functions of tensors (`TFOpLambda`) through that, and knows few
activations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras

from tfslim import ops
from tfslim.graph import ir, keras2_functions
from tfslim.graph.editor import Editor
from tfslim.sparsity import hard

# Activations that TF-MOT quantizes inside the layer that has them.
INSIDE = (None, "linear", "relu", "softmax", "sigmoid", "tanh")
_MERGES = {
    "add": "Add",
    "maximum": "Maximum",
    "minimum": "Minimum",
    "multiply": "Multiply",
    "subtract": "Subtract",
}
_ELEMENTWISE = ops.keras("function") & ops.keras("elementwise")
_CLIPS = {"relu": None, "relu6": 6.0}


@tf_keras.utils.register_keras_serializable(package="tfslim")
class GraphFunction(tf_keras.layers.Layer):
    """A function of the graph's vocabulary as a layer.

    `constants` has one entry an operand: None for a tensor of the call, else a number
    or nested lists.
    """

    def __init__(
        self,
        op: str,
        options: Mapping[str, Any] | None = None,
        constants: Sequence[Any] = (None,),
        **fields: Any,
    ):
        """Takes a function of the vocabulary and its config."""
        super().__init__(**fields)
        self.op = op
        self.options = dict(options or {})
        self.constants = list(constants)

    def call(self, inputs: Any) -> Any:
        """Computes the function of one tensor or a list of them."""
        tensors = iter(inputs if isinstance(inputs, list | tuple) else [inputs])
        operands = [
            next(tensors) if c is None else np.asarray(c, self.compute_dtype)
            for c in self.constants
        ]
        return keras2_functions.compute(self.op, operands, config=self.options)

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer."""
        return {
            **super().get_config(),
            "op": self.op,
            "options": self.options,
            "constants": self.constants,
        }


def plain(graph: ir.Graph) -> ir.Graph:
    """Returns a graph without functions that computes the same.

    Functions become Keras layers where there are some, `GraphFunction`s elsewhere;
    activations that TF-MOT does not know inside a layer follow it.
    """
    editor = Editor(graph)
    spelled_out = hard.find(graph)
    for number, node in enumerate(graph.nodes):
        layer = graph.layer_of(node)
        args, kwargs = node.args, node.kwargs
        chain = [layer]
        if number in spelled_out:
            op, source = spelled_out[number]
            chain, args, kwargs = (
                [_graph_function(layer.name, {"op": op})],
                (source,),
                {},
            )
        elif layer.op in ops.keras("function"):
            chain, args = _as_layer(graph, layer, node=node)
        elif layer.op == "Activation":
            chain = [_activation(layer.name, layer.config["activation"]) or layer]
        elif layer.config.get("activation") not in INSIDE:
            chain = _split(layer)
        args, kwargs = ir.substitute((args, dict(kwargs)), editor.moved)
        for part in chain:
            output = editor.call(part, args, node.shapes, kwargs)
            args, kwargs = (output,), {}
        editor.move(number)
    return editor.finish()


def _as_layer(
    graph: ir.Graph, function: ir.Layer, *, node: ir.Node
) -> tuple[list[ir.Layer], tuple[Any, ...]]:
    """Returns the layer that a function becomes, and what it is called on."""
    operands = node.args[0] if function.op == "concatenate" else node.args
    values = [_constant(graph, operand) for operand in operands]
    tensors = [o for o, v in zip(operands, values, strict=True) if v is None]
    ranks = {len(graph.shape(ref)) for ref in tensors}
    name, args = function.name, tuple(tensors) if len(tensors) == 1 else (tensors,)
    if function.op in _CLIPS:
        return [_relu(name, _CLIPS[function.op])], args
    if len(tensors) == len(operands) > 1 and len(ranks) == 1:
        if function.op in _MERGES:
            return [ir.Layer(name, _MERGES[function.op])], args
        if function.op == "concatenate":
            return [ir.Layer(name, "Concatenate", dict(function.config))], args
    config = {
        "op": function.op,
        "options": dict(function.config),
        "constants": values,
    }
    return [_graph_function(name, config)], args


def _constant(graph: ir.Graph, ref: ir.TensorRef) -> Any:
    layer = graph.layer_of(graph.nodes[ref.node])
    return layer.weights["value"].tolist() if layer.op == "Constant" else None


def _split(layer: ir.Layer) -> list[ir.Layer]:
    """Returns a layer without its activation, and the activation."""
    name = layer.config["activation"]
    if not isinstance(name, str) or layer.keras_class is not None:
        return [layer]
    after = _activation(f"{layer.name}_{name}", name)
    if after is None:
        after = ir.Layer(f"{layer.name}_{name}", "Activation", {"activation": name})
    config = {**layer.config, "activation": "linear"}
    return [dataclasses.replace(layer, config=config), after]


def _activation(name: str, activation: Any) -> ir.Layer | None:
    """Returns a layer of its own for an activation, None where Keras's will do."""
    if activation in _CLIPS:
        return _relu(name, _CLIPS[activation])
    if activation in _ELEMENTWISE and activation not in INSIDE:
        return _graph_function(name, {"op": activation})
    return None


def _relu(name: str, top: float | None) -> ir.Layer:
    return ir.Layer(name, "ReLU", {"max_value": top})


def _graph_function(name: str, config: dict[str, Any]) -> ir.Layer:
    return ir.Layer(name, "GraphFunction", config, keras_class=GraphFunction)
