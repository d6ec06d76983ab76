"""What must change in a graph, or forbids it, when the other Keras shall build it."""

from __future__ import annotations

import dataclasses

from tfslim import errors
from tfslim.graph import ir

# Layers of one name that do different things in inference.
_UNLIKE = {
    "RandomCrop": "in inference tf_keras resizes to its size and Keras 3 does nothing"
}


def cross(graph: ir.Graph, keras: str) -> ir.Graph:
    """Returns the graph by the rules of the other Keras than it was read from.

    In tf_keras the `training` of a call holds always. In Keras 3 `fit`, `evaluate` and
    `predict` set it anew for every layer, so that a `True` there never has an effect
    in them: it is left out for tf_keras. `False` is kept both ways, as what users mean
    by it: Keras 3 obeys it in inference, tf_keras in training, too.

    Args:
        graph: read from the other Keras.
        keras: the Keras to build it in.

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
    return dataclasses.replace(graph, nodes=tuple(map(_without_true, graph.nodes)))


def _without_true(node: ir.Node) -> ir.Node:
    if node.kwargs.get("training") is not True:
        return node
    kwargs = {key: value for key, value in node.kwargs.items() if key != "training"}
    return dataclasses.replace(node, kwargs=kwargs)
