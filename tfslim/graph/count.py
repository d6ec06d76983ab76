"""What a graph costs: parameters, multiply-accumulates and bytes, layer by layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from tfslim import ops
from tfslim.graph import ir

# Ops whose every input position takes the whole kernel; of others every output does.
_PER_INPUT = ops.keras("transposed") | {"Dense"}


@dataclasses.dataclass(frozen=True)
class NodeCount:
    """The cost of one call of a layer at batch size 1.

    Attributes:
        name: the layer's name.
        op: the layer's op.
        shape: the shape of the first output, batch axis included.
        params: all weights of the layer; 0 for the second call of a shared layer.
        trainable_params: those that training changes.
        macs: multiply-accumulates, 1 MAC = 2 FLOPs; None where the size of an axis
            is not known or the op is not one we can count.
        weight_bytes: memory of the weights, counted as `params`.
    """

    name: str
    op: str
    shape: ir.Shape
    params: int
    trainable_params: int
    macs: int | None
    weight_bytes: int


@dataclasses.dataclass(frozen=True)
class Counts:
    """The cost of a graph, node by node, and its sums."""

    nodes: tuple[NodeCount, ...]

    @property
    def params(self) -> int:
        """All weights, those that no optimizer trains included."""
        return sum(node.params for node in self.nodes)

    @property
    def trainable_params(self) -> int:
        """The weights that training changes."""
        return sum(node.trainable_params for node in self.nodes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates (1 MAC = 2 FLOPs) of all nodes that are counted."""
        return sum(node.macs or 0 for node in self.nodes)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights in the model's own types."""
        return sum(node.weight_bytes for node in self.nodes)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Names of the layers whose MACs are missing in the sum."""
        return tuple(node.name for node in self.nodes if node.macs is None)


def count(graph: ir.Graph) -> Counts:
    """Counts the parameters, MACs and bytes of a graph at batch size 1.

    MACs are those of convolutions (plain, grouped, depthwise, separable,
    transposed), dense and recurrent layers (every step), and attention (projections,
    scores and sums); biases, normalizations, activations and additions are not
    multiply-accumulates and count as 0.
    """
    seen: set[str] = set()
    rows = []
    for node in graph.nodes:
        layer = graph.layer_of(node)
        owned = layer.weights if node.layer not in seen and _is_paid(layer) else {}
        seen.add(node.layer)
        rows.append(
            NodeCount(
                name=layer.name,
                op=layer.op,
                shape=node.shapes[0],
                params=sum(weight.size for weight in owned.values()),
                trainable_params=sum(
                    weight.size
                    for name, weight in owned.items()
                    if layer.trainable and name not in layer.state
                ),
                macs=_macs(graph, node),
                weight_bytes=sum(weight.nbytes for weight in owned.values()),
            )
        )
    return Counts(tuple(rows))


def _is_paid(layer: ir.Layer) -> bool:
    return layer.op != "Constant"


def _macs(graph: ir.Graph, node: ir.Node) -> int | None:
    layer = graph.layer_of(node)
    kernels = ops.KERAS[layer.op].kernels if layer.op in ops.KERAS else ()
    if kernels:
        is_per_input = layer.op in _PER_INPUT
        shape = graph.shape(node.inputs[0]) if is_per_input else node.shapes[0]
        positions = _positions(shape, layer)
        per_position = sum(layer.weights[name].size for name in kernels)
    elif (counter := _counter(layer.op)) is not None:
        return counter(graph, node)
    elif layer.op == "matmul":
        positions = _size(node.shapes[0][1:])
        per_position = graph.shape(node.inputs[0])[-1] or 0
    else:
        is_free = not layer.weights or layer.op in ops.keras("uncounted")
        return 0 if is_free else None
    return None if positions is None else positions * per_position


def _of_steps(graph: ir.Graph, node: ir.Node) -> int | None:
    """Counts a recurrent layer, and wrappers of such: all kernels at every step."""
    layer = graph.layer_of(node)
    if layer.op in _WRAPPERS and not _holds_steps(layer):
        return None
    size = sum(
        weight.size
        for name, weight in layer.weights.items()
        if name.rstrip("_0123456789") in ("kernel", "recurrent_kernel")
    )
    steps = graph.shape(node.inputs[0])[1]
    return None if steps is None else steps * size


_WRAPPERS = ("Bidirectional", "RNN")


def _holds_steps(layer: ir.Layer) -> bool:
    """Tells whether all that a wrapper holds is a recurrent layer or cell of Keras."""
    inner = layer.config.get("layer") or layer.config.get("cell")
    inner = inner if isinstance(inner, Mapping) else {}
    if inner.get("class_name") == "StackedRNNCells":
        cells = inner["config"]["cells"]
    else:
        cells = [inner]
    known = ops.keras("recurrent", "cell")
    return all(
        isinstance(cell, Mapping)
        and cell.get("class_name") in known
        and not str(cell.get("class_name")).startswith("Conv")
        for cell in cells
    )


def _of_maps(graph: ir.Graph, node: ir.Node) -> int | None:
    """Counts a convolutional recurrent layer: both kernels at every output position."""
    layer = graph.layer_of(node)
    steps = graph.shape(node.inputs[0])[1]
    shape = node.shapes[0][1:]
    if layer.config.get("return_sequences"):
        shape = shape[1:]
    is_first = layer.config.get("data_format") == "channels_first"
    positions = _size(shape[1:] if is_first else shape[:-1])
    size = sum(layer.weights[n].size for n in ("kernel", "recurrent_kernel"))
    if steps is None or positions is None:
        return None
    return steps * positions * size


def _of_attention(graph: ir.Graph, node: ir.Node) -> int | None:
    """Counts projections, scores and the sums of values that they weigh."""
    layer = graph.layer_of(node)
    shapes = [graph.shape(ref) for ref in node.inputs]
    kernels = [layer.weights.get(f"kernel{s}") for s in ("", "_1", "_2", "_3")]
    if any(k is None for k in kernels) or len(shapes) < 2:
        return None
    query, key, value, out = (k for k in kernels if k is not None)
    queries, values = (_size(shape[1:-1]) for shape in shapes[:2])
    if queries is None or values is None or query.ndim != 3:
        return None
    _, heads, width = query.shape
    projections = queries * (query.size + out.size) + values * (key.size + value.size)
    return projections + heads * queries * values * (width + value.shape[2])


def _of_equation(graph: ir.Graph, node: ir.Node) -> int | None:
    """Counts an EinsumDense: as many products as its letters have places."""
    layer = graph.layer_of(node)
    terms = str(layer.config["equation"]).replace(" ", "").split("->")[0].split(",")
    source = [letter for letter in terms[0] if letter != "."]
    shape = graph.shape(node.inputs[0])
    shape = shape[len(shape) - len(source) :] if "..." in terms[0] else shape
    sizes = dict(zip(source, shape, strict=True))
    sizes |= dict(zip(terms[1], layer.weights["kernel"].shape, strict=True))
    more = graph.shape(node.inputs[0])[1 : 1 - len(source)] if "..." in terms[0] else ()
    letters = [size for letter, size in sizes.items() if size is not None]
    is_known = sum(size is None for size in sizes.values()) <= 1
    extra = _size(tuple(more)) if more else 1
    return math.prod(letters) * extra if is_known and extra is not None else None


def _counter(op: str) -> Callable[[ir.Graph, ir.Node], int | None] | None:
    """Returns what counts the MACs of a layer with more than one kernel."""
    if op in ops.keras("recurrent"):
        return _of_maps if op.startswith("Conv") else _of_steps
    if op in _WRAPPERS:
        return _of_steps
    return {"MultiHeadAttention": _of_attention, "EinsumDense": _of_equation}.get(op)


def _positions(shape: ir.Shape, layer: ir.Layer) -> int | None:
    """Returns the number of positions of a tensor, channels not counted."""
    if layer.config.get("data_format") == "channels_first":
        return _size(shape[2:])
    return _size(shape[1:-1])


def _size(sizes: ir.Shape) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None
