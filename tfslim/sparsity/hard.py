"""Finds hard sigmoids and hard swishes that a model spells out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tfslim.graph import ir


def find(graph: ir.Graph) -> dict[int, tuple[str, ir.TensorRef]]:
    """Finds relu6(x + 3) / 6, and x times that, made of layers or functions.

    keras.applications and tfslim write MobileNetV3's activations so. One op with one
    rounding, instead of four, is both faster and more exact.

    Returns:
        Number of the node that gives the result -> ("hard_sigmoid" or "hard_silu", x).
    """
    found: dict[int, tuple[str, ir.TensorRef]] = {}
    for number, node in enumerate(graph.nodes):
        inputs = node.inputs
        if _scale(graph, number) is not None:
            source = _hard_sigmoid(graph, number)
            if source is not None:
                found[number] = ("hard_sigmoid", source)
        elif graph.layer_of(node).op in ("multiply", "Multiply") and len(inputs) == 2:
            for gate, other in (inputs, inputs[::-1]):
                if found.get(gate.node) == ("hard_sigmoid", other):
                    found[number] = ("hard_silu", other)
    return found


def _hard_sigmoid(graph: ir.Graph, number: int) -> ir.TensorRef | None:
    """Returns x if node `number` is relu6(x + 3) / 6."""
    scaled = _scale(graph, number)
    if scaled is None or not _is(scaled, 1 / 6, offset=0.0):
        return None
    middle = _tensor(graph, number)
    if middle is None or not _is_relu6(graph.layer_of(graph.nodes[middle.node])):
        return None
    inner = _tensor(graph, middle.node)
    if inner is None:
        return None
    shifted = _scale(graph, inner.node)
    if shifted is None or not _is(shifted, 1.0, offset=3.0):
        return None
    return _tensor(graph, inner.node)


def _is(found: tuple[float, float], scale: float, *, offset: float) -> bool:
    return math.isclose(found[0], scale, rel_tol=1e-5) and found[1] == offset


def _tensor(graph: ir.Graph, number: int) -> ir.TensorRef | None:
    """Returns the one tensor, constants aside, that a node takes."""
    tensors = [
        ref
        for ref in graph.nodes[number].inputs
        if graph.layer_of(graph.nodes[ref.node]).op != "Constant"
    ]
    return tensors[0] if len(tensors) == 1 else None


def _scale(graph: ir.Graph, number: int) -> tuple[float, float] | None:
    """Returns (a, b) if a node computes a * x + b with two numbers."""
    node = graph.nodes[number]
    layer = graph.layer_of(node)
    if layer.op == "Rescaling":
        a, b = layer.config["scale"], layer.config.get("offset", 0.0)
        return (float(a), float(b)) if _is_number(a) and _is_number(b) else None
    if layer.op not in ("add", "multiply", "divide") or len(node.inputs) != 2:
        return None
    values = [_value(graph, ref) for ref in node.inputs]
    if layer.op == "divide":
        return None if not values[1] or values[0] is not None else (1 / values[1], 0.0)
    known = [value for value in values if value is not None]
    if len(known) != 1:
        return None
    return (1.0, known[0]) if layer.op == "add" else (known[0], 0.0)


def _value(graph: ir.Graph, ref: ir.TensorRef) -> float | None:
    layer = graph.layer_of(graph.nodes[ref.node])
    if layer.op != "Constant" or layer.weights["value"].size != 1:
        return None
    return float(layer.weights["value"].reshape(()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_relu6(layer: ir.Layer) -> bool:
    config: Mapping[str, object] = layer.config
    if layer.op == "ReLU":
        return (
            config.get("max_value") == 6
            and not config.get("threshold")
            and not config.get("negative_slope")
        )
    return layer.op == "relu6" or (
        layer.op == "Activation" and config["activation"] == "relu6"
    )
