"""What must change in a graph, or forbids it, when the other Keras shall build it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfslim import errors, ops
from tfslim.graph import ir, keras_reader, keras_wrappers

# Layers of one name that do different things in inference.
_UNLIKE = {
    "RandomCrop": "in inference tf_keras resizes to its size and Keras 3 does nothing"
}


# The hard sigmoid of either Keras: clip(0.2 x + 0.5, 0, 1) is that of tf_keras, and
# relu6(x + 3) / 6 that of Keras 3. One of x is the other of x by this factor.
_HARD = {
    "keras": ("hard_sigmoid_legacy", "hard_sigmoid", 1.2),
    "tf_keras": ("hard_sigmoid", "hard_sigmoid_legacy", 1 / 1.2),
}


def cross(graph: ir.Graph, keras: str, *, source: keras_reader.Dialect) -> ir.Graph:
    """Returns the graph by the rules of the other Keras than it was read from.

    In tf_keras the `training` of a call holds always. In Keras 3 `fit`, `evaluate` and
    `predict` set it anew for every layer, so that a `True` there never has an effect
    in them: it is left out for tf_keras. `False` is kept both ways, as what users mean
    by it: Keras 3 obeys it in inference, tf_keras in training, too.

    Args:
        graph: read from the other Keras.
        keras: the Keras to build it in.
        source: how the other Keras is read.

    Raises:
        GraphError: a layer does something else there.
    """
    for node in graph.nodes:
        layer = graph.layer_of(node)
        if layer.op in _UNLIKE and layer.keras_class is None:
            raise errors.GraphError(
                f"Layer '{layer.name}' ({layer.op}) is not the same in both Keras: "
                f"{_UNLIKE[layer.op]}. Take it out, or keep the model in the Keras it "
                "came from."
            )
        if keras == "keras" and node.kwargs.get("training") is True:
            raise errors.GraphError(
                f"Layer '{layer.name}' ({layer.op}) is called with training=True, "
                "which holds in predict in tf_keras and not in Keras 3. Call it "
                "without, or keep the model in tf_keras."
            )
    layers = dict(graph.layers)
    for node in graph.nodes:
        shapes = [graph.shape(ref) for ref in node.inputs] or [node.shapes[0]]
        layer = keras_wrappers.portable(layers[node.layer], source, ndim=len(shapes[0]))
        layers[node.layer] = _with_hard_gates(layer, keras)
    nodes = tuple(map(_without_true, graph.nodes))
    return dataclasses.replace(graph, layers=layers, nodes=nodes)


def _with_hard_gates(layer: ir.Layer, keras: str) -> ir.Layer:
    """Gives gates the other Keras's hard sigmoid, and weights that make up for it."""
    old, new, factor = _HARD[keras]
    inner = [
        layer.config[key]
        for key in ("layer", "backward_layer", "cell")
        if isinstance(layer.config.get(key), Mapping)
    ]
    if not inner:
        if layer.config.get("recurrent_activation") != old or not _switches(layer.op):
            return layer
        weights = {
            name: _scaled(weight, layer.op, factor=factor)
            for name, weight in layer.weights.items()
        }
        config = {**layer.config, "recurrent_activation": new}
        return dataclasses.replace(layer, config=config, weights=weights)
    kinds = {
        each["op"] if each["config"].get("recurrent_activation") == old else ""
        for each in inner
    }
    if len(kinds) != 1 or not _switches(*kinds):
        return layer
    config = dict(layer.config)
    for key in ("layer", "backward_layer", "cell"):
        if isinstance(config.get(key), Mapping):
            own = {**config[key]["config"], "recurrent_activation": new}
            config[key] = {**config[key], "config": own}
    weights = {
        name: _scaled(weight, next(iter(kinds)), factor=factor)
        for name, weight in layer.weights.items()
    }
    return dataclasses.replace(layer, config=config, weights=weights)


def _switches(op: str) -> tuple[int, ...]:
    return ops.KERAS[op].switches if op in ops.KERAS else ()


def _scaled(weight: ir.Array, op: str, *, factor: float) -> ir.Array:
    row = ops.KERAS[op]
    parts = np.split(weight, row.gates, axis=-1)
    scaled = [
        part * factor if number in row.switches else part
        for number, part in enumerate(parts)
    ]
    return np.concatenate(scaled, axis=-1).astype(weight.dtype)


def _without_true(node: ir.Node) -> ir.Node:
    if node.kwargs.get("training") is not True:
        return node
    kwargs = {key: value for key, value in node.kwargs.items() if key != "training"}
    return dataclasses.replace(node, kwargs=kwargs)
