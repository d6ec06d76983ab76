"""What a graph costs: parameters, multiply-accumulates and bytes, layer by layer."""

from __future__ import annotations

import dataclasses
import math

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
    transposed) and dense layers; biases, normalizations, activations and additions
    are not multiply-accumulates and count as 0.
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
    elif layer.op == "matmul":
        positions = _size(node.shapes[0][1:])
        per_position = graph.shape(node.inputs[0])[-1] or 0
    else:
        is_free = not layer.weights or layer.op in ops.keras("uncounted")
        return 0 if is_free else None
    return None if positions is None else positions * per_position


def _positions(shape: ir.Shape, layer: ir.Layer) -> int | None:
    """Returns the number of positions of a tensor, channels not counted."""
    if layer.config.get("data_format") == "channels_first":
        return _size(shape[2:])
    return _size(shape[1:-1])


def _size(sizes: ir.Shape) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None
