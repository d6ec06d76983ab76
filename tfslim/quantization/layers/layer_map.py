"""Which Keras layers an op of a `.tflite` computes, found by what they compute.

Both are run on the same two random inputs. A layer's output and an op's output that
are equal on both are one value of the two graphs, and what lies before it in one
graph, up to the shared values before, is computed by what lies before it in the other.
So a convolution whose output no tensor holds, because batch norm and activation are
fused into it, belongs to the op that holds the activation. Names decide only between
tensors whose values are equal anyway.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfslim import ops as op_table
from tfslim import tflite
from tfslim.graph import ir
from tfslim.quantization.layers import layer_names
from tfslim.quantization.layers.match_tensors import SharedValues
from tfslim.quantization.ranges.batching import readable
from tfslim.quantization.rules.preprocess_model import prepare
from tfslim.tflite import metadata

# One array for each of the model's inputs -> the value of every tensor of its graph.
Run = Callable[[Sequence[np.ndarray]], Mapping[ir.TensorRef, np.ndarray]]

_NUM_INPUTS = 2
# Ops that hand values on in another shape, and the layers that do.
_MOVES = op_table.tflite("reshaping")
_MOVING = op_table.keras("moving") - {"Permute", "transpose"}
_ENDS = frozenset(["Input", "Constant"])


def _kinds(op: tflite.Op) -> set[str]:
    """Returns the layers whose weights an op may hold."""
    return {name for name, row in op_table.KERAS.items() if op.name in row.tflite}


@dataclasses.dataclass(frozen=True, eq=False)
class LayerMap:
    """The layers behind each op.

    Attributes:
        ops: name of an op's first output -> its layers, the one with the weights first
            and the others in the model's order.
        unmapped: layer -> why no op is known to compute it.
        unknown_ops: first outputs of ops that no layer is known for.
    """

    ops: dict[str, tuple[str, ...]]
    unmapped: dict[str, str]
    unknown_ops: tuple[str, ...]


def map_layers(model: bytes, graph: ir.Graph, run: Run, *, seed: int = 0) -> LayerMap:
    """Finds the layers of every op by running both on two random inputs.

    Args:
        model: the float `.tflite`.
        graph: the Keras model it was converted from.
        run: runs that model; `tfslim.graph.keras_probe.probe` gives both.
        seed: of the inputs, which are normal; whole numbers are 0 or 1.

    Raises:
        QuantizationError: the file holds integers already.
    """
    runner = tflite.Runner(prepare(model), preserve_all_tensors=True)
    orders = _inputs(graph, runner.model)
    for inputs in orders:
        values = _shared_values(runner, graph, run=run, inputs=inputs, seed=seed)
        if len(orders) == 1 or any(map(values.is_shared, graph.output_refs)):
            break
    return _Aligner(graph, runner.model, values=values).result()


def _shared_values(
    runner: tflite.Runner,
    graph: ir.Graph,
    *,
    run: Run,
    inputs: Mapping[str, tflite.Tensor],
    seed: int,
) -> SharedValues:
    """Runs both, the file's `inputs` in the order of the graph's."""
    main = runner.model.graphs[0]
    random = np.random.default_rng(seed)
    ours: dict[int, list[np.ndarray]] = {}
    theirs: dict[ir.TensorRef, list[np.ndarray]] = {}
    written: list[tflite.Tensor] = []
    for _ in range(_NUM_INPUTS):
        fed = {name: _random(random, tensor) for name, tensor in inputs.items()}
        runner.set_inputs(fed)
        runner.invoke()
        written = written or readable(runner, _written(main))
        for tensor in written:
            value = runner.interpreter.get_tensor(tensor.index)
            ours.setdefault(tensor.index, []).append(value)
        for ref, value in run(list(fed.values())).items():
            theirs.setdefault(ref, []).append(np.asarray(value))
    same = {}
    if len(main.outputs) == len(graph.output_refs) == 1:
        same[graph.output_refs[0]] = main.outputs[0].index
    return SharedValues(ours, theirs, same=same)


def put_layers(model: bytes, found: LayerMap) -> bytes:
    """Returns a copy of a float `.tflite` that carries the map.

    `quantize_tflite(layers=...)`, `rank_layers` and `diagnose` read it.
    """
    entry = metadata.get_json(model) or {}
    entry[layer_names.ENTRY] = {name: list(names) for name, names in found.ops.items()}
    return metadata.put_json(model, entry)


def _inputs(
    graph: ir.Graph, model: tflite.TfliteModel
) -> list[dict[str, tflite.Tensor]]:
    """Returns the orders that the file's inputs may have in the graph.

    One, if the names tell; else all in which the shapes fit, the file's first.
    """
    by_name = {name: model.tensors[i] for name, i in model.input_names.items()}
    wanted = [
        re.sub(r"[^A-Za-z0-9_.\-]", "_", graph.nodes[ref.node].layer)
        for ref in graph.input_refs
    ]
    if set(wanted) == set(by_name):
        return [{name: by_name[name] for name in wanted}]
    shapes = [graph.nodes[ref.node].shapes[0][1:] for ref in graph.input_refs]
    orders = [
        dict(order)
        for order in itertools.islice(itertools.permutations(by_name.items()), 24)
        if all(map(_fits, shapes, [tensor.shape[1:] for _, tensor in order]))
    ]
    return orders or [by_name]


def _fits(shape: Sequence[int | None], other: Sequence[int]) -> bool:
    return len(shape) == len(other) and all(
        size in (None, found) for size, found in zip(shape, other, strict=True)
    )


def _random(random: np.random.Generator, tensor: tflite.Tensor) -> np.ndarray:
    if tensor.dtype.startswith("float"):
        return random.normal(size=tensor.shape).astype(tensor.dtype)
    return random.integers(0, 2, tensor.shape).astype(tensor.dtype)


def _written(graph: tflite.Graph) -> list[tflite.Tensor]:
    """Lists the inputs and what the ops write, as far as they are float."""
    made = [graph.tensors[i] for op in graph.ops for i in op.outputs if i >= 0]
    return [t for t in (*graph.inputs, *made) if t.dtype == "float32" and t.size]


class _Aligner:
    """Goes from the values that both graphs share to all ops and layers."""

    def __init__(
        self, graph: ir.Graph, model: tflite.TfliteModel, *, values: SharedValues
    ):
        self._graph, self._main, self._shared_values = graph, model.graphs[0], values
        self._hints = layer_names.LayerNames(model, use_map=False)
        # Op -> the nodes whose output is the op's, and those on the way to it.
        self._anchors: dict[int, list[int]] = {op.index: [] for op in self._main.ops}
        self._joined: dict[int, list[int]] = {op.index: [] for op in self._main.ops}
        for tensors, refs in values.shared():
            self._share(tensors, refs)
        self._join_nodes()
        self._join_ops()

    def _share(self, tensors: Sequence[int], refs: Sequence[ir.TensorRef]) -> None:
        """Deals the layers of one value out to the ops that write it."""
        producers = self._main.producers
        ops = [producers[tensor] for tensor in tensors if tensor in producers]
        nodes = [ref.node for ref in refs if self._op_of(ref.node) not in _ENDS]
        moving = [node for node in nodes if self._op_of(node) in _MOVING]
        passing = [n for n in nodes if n not in moving and self._passes(n)]
        making = [n for n in nodes if n not in moving and n not in passing]
        self._deal([op for op in ops if op.name not in _MOVES], making, spare=passing)
        self._deal([op for op in ops if op.name in _MOVES], [], spare=moving)

    def _deal(
        self, ops: Sequence[tflite.Op], nodes: Sequence[int], *, spare: Sequence[int]
    ) -> None:
        """Gives one node to each op, by name or else by order; `spare` ones last."""
        left, nameless = [*nodes, *spare], []
        for op in ops:
            hints = set(self._hints.of(op))
            named = [n for n in left if self._graph.nodes[n].layer in hints]
            if named:
                self._anchors[op.index].append(named[0])
                left.remove(named[0])
            else:
                nameless.append(op)
        for op, node in zip(nameless, left, strict=False):
            self._anchors[op.index].append(node)
        # An op that changes nothing here, such as a limit that no value reaches.
        for op in nameless[len(left) :]:
            before = [o for o in ops if o.index < op.index and self._anchors[o.index]]
            self._anchors[op.index] += self._anchors[before[-1].index] if before else []
        # Layers that compute the same as another are done by one op.
        for node in left[len(nameless) :]:
            if ops and node not in spare:
                self._anchors[ops[-1].index].append(node)

    def _op_of(self, node: int) -> str:
        return self._graph.layer_of(self._graph.nodes[node]).op

    def _passes(self, node: int) -> bool:
        """Whether a node's output is its input, as dropout's is."""
        number = self._shared_values.number(ir.TensorRef(node))
        inputs = self._graph.nodes[node].inputs
        return any(self._shared_values.number(ref) == number for ref in inputs)

    def _join_nodes(self) -> None:
        """Gives layers whose output no op writes to the first op after them."""
        first = {n: op for op, nodes in self._anchors.items() for n in nodes}
        readers: dict[int, list[int]] = {}
        for number, reader in enumerate(self._graph.nodes):
            for ref in reader.inputs:
                readers.setdefault(ref.node, []).append(number)
        for node in reversed(range(len(self._graph.nodes))):
            after = [first[r] for r in readers.get(node, []) if r in first]
            if node in first or not after:
                continue
            first[node] = min(after)
            is_shared = self._shared_values.is_shared(ir.TensorRef(node))
            if not is_shared and self._op_of(node) not in _ENDS:
                self._joined[first[node]].insert(0, node)

    def _join_ops(self) -> None:
        """Gives ops whose output no layer has the layers of the next that has some."""
        # Op -> the layers that are left for the ops before it, and which op has them.
        left: dict[int, tuple[list[int], int]] = {}
        for op in reversed(self._main.ops):
            nodes, owner = self._joined[op.index], op.index
            if not self._anchors[op.index]:
                after = [
                    reader.index
                    for tensor in op.outputs
                    for reader in self._main.consumers.get(tensor, [])
                    if reader.index in left
                ]
                if not after:
                    continue
                nodes, owner = left[after[0]]
            own = self._with_weights(op, nodes)
            if self._with_weights(op, self._anchors[op.index]):
                own = []
            cut = own[-1] if own else len(nodes)
            left[op.index] = nodes[:cut], owner
            if owner == op.index:
                continue
            self._joined[op.index] = nodes[cut:] or nodes or self._nodes_of(after[0])
            if own:  # Its weights: the layers from there on are this op's alone.
                claimed = nodes[cut:]
                kept = [node for node in self._joined[owner] if node not in claimed]
                self._joined[owner] = kept

    def _with_weights(self, op: tflite.Op, nodes: Sequence[int]) -> list[int]:
        """Returns the places of those nodes whose weights `op` may hold."""
        kinds = _kinds(op)
        return [i for i, node in enumerate(nodes) if self._op_of(node) in kinds]

    def _nodes_of(self, op: int) -> list[int]:
        return sorted({*self._joined[op], *self._anchors[op]})

    def result(self) -> LayerMap:
        """Names what was found."""
        ops, unknown = {}, []
        for op in self._main.ops:
            places = self._nodes_of(op.index)
            # Of a separable convolution two ops hold weights.
            kinds = {*_kinds(op), "SeparableConv2D"}
            places.sort(key=lambda place: self._op_of(place) not in kinds)
            nodes = [self._graph.nodes[place].layer for place in places]
            name = self._main.name_of(op)
            if nodes:
                ops[name] = tuple(dict.fromkeys(nodes))
            else:
                unknown.append(name)
        mapped = {name for names in ops.values() for name in names}
        unmapped = {
            node.layer: self._reason(number)
            for number, node in enumerate(self._graph.nodes)
            if node.layer not in mapped and self._op_of(number) not in _ENDS
        }
        return LayerMap(ops, unmapped, tuple(unknown))

    def _reason(self, node: int) -> str:
        if self._passes(node):
            return "It hands its input on, and no op does that."
        return "No op writes its values, nor those of a layer after it."
