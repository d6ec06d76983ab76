"""Which ops compute in integers and which in float, so that a file takes least time.

Every op has one of two labels, and costs its own time in that precision; a tensor that
is written in one precision and read in the other costs one conversion, however many
ops read it. The sum over the graph is least where a cut through a network of flows is
least: source = integers, sink = float, each op a node, each conversion a node of its
own. That is exact for any directed graph, branches and skips included, which dynamic
programming over a chain is not, and takes milliseconds. Source: Greig, Porteous and
Seheult, "Exact maximum a posteriori estimation for binary images", 1989; the node for
each tensor: Kohli, Ladicky and Torr, "Robust higher order potentials", 2009.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from tfslim import tflite

# Units of a capacity in a microsecond, at most: they are whole numbers of 32 bits.
_MOST_UNITS = 1000.0
_LARGEST = 2**30
# Integers cost a share less than measured where both are alike: they are smaller.
_PREFERENCE = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitCosts:
    """Microseconds of all that a split consists of.

    Attributes:
        float_us: op's index -> in float.
        integer_us: op's index -> in integers; ops that are not here stay float.
        border_us: (tensor's index, operation) -> of a "QUANTIZE" or "DEQUANTIZE" of
            that tensor.
        fixed: tensor's index -> whether the file's end takes or gives integers there;
            inputs and outputs that are not here are float.
    """

    float_us: Mapping[int, float]
    integer_us: Mapping[int, float]
    border_us: Callable[[int, str], float]
    fixed: Mapping[int, bool] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Split:
    """The split of least time.

    Attributes:
        integer: indices of the ops in integers.
        us: its time.
        all_float_us: with all ops in float.
        all_integer_us: with every op in integers that can be.
    """

    integer: frozenset[int]
    us: float
    all_float_us: float
    all_integer_us: float


def least_time(graph: tflite.Graph, costs: SplitCosts) -> Split:
    """Finds the split of least time; of two that are equal the one in integers."""
    network = _Network(graph, costs)
    integer = network.cut()
    return Split(
        integer=frozenset(integer),
        us=time_of(graph, costs, integer=integer),
        all_float_us=time_of(graph, costs, integer=set()),
        all_integer_us=time_of(graph, costs, integer=set(costs.integer_us)),
    )


def time_of(graph: tflite.Graph, costs: SplitCosts, *, integer: set[int]) -> float:
    """Returns the time of the graph with those ops in integers."""
    total = sum(
        costs.integer_us[op.index]
        if op.index in integer
        else costs.float_us.get(op.index, 0.0)
        for op in graph.ops
    )
    for tensor, writer, readers in _edges(graph):
        written = (
            costs.fixed.get(tensor, False) if writer is None else writer in integer
        )
        read = [
            costs.fixed.get(tensor, False) if reader is None else reader in integer
            for reader in readers
        ]
        if written and not all(read):
            total += costs.border_us(tensor, "DEQUANTIZE")
        if not written and any(read):
            total += costs.border_us(tensor, "QUANTIZE")
    return total


def _edges(
    graph: tflite.Graph,
) -> list[tuple[int, int | None, list[int | None]]]:
    """Returns each computed tensor of reals with its writer and its readers.

    None stands for the file's own inputs and outputs.
    """
    ends = {tensor.index for tensor in graph.outputs}
    starts = {tensor.index for tensor in graph.inputs}
    found = []
    for tensor in graph.tensors:
        producer = graph.producers.get(tensor.index)
        if tensor.dtype != "float32" or tensor.is_constant:
            continue
        if producer is None and tensor.index not in starts:
            continue
        readers: list[int | None] = [
            op.index for op in graph.consumers.get(tensor.index, [])
        ]
        if tensor.index in ends:
            readers.append(None)
        writer = None if producer is None else producer.index
        found.append((tensor.index, writer, readers))
    return found


class _Network:
    """The network of flows: nodes 0 (integers) and 1 (float), ops, conversions."""

    def __init__(self, graph: tflite.Graph, costs: SplitCosts):
        self._arcs: dict[tuple[int, int], float] = {}
        self._forced: set[tuple[int, int]] = set()
        self._nodes = 2
        self._ops: dict[int, int] = {}
        self._costs = costs
        for op in graph.ops:
            if op.index in costs.integer_us:
                node = self._ops[op.index] = self._node()
                saved = 1 - _PREFERENCE
                # A cut arc from integers to the op: it is float, and costs so much.
                self._add(0, node, costs.float_us.get(op.index, 0.0))
                self._add(node, 1, costs.integer_us[op.index] * saved)
        for tensor, writer, readers in _edges(graph):
            self._add_tensor(tensor, writer, readers=readers)

    def _node(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def _add(self, tail: int, head: int, capacity: float) -> None:
        if tail != head and capacity > 0:
            self._arcs[tail, head] = self._arcs.get((tail, head), 0.0) + capacity

    def _place(self, op: int | None, tensor: int) -> int:
        if op is None:
            return 0 if self._costs.fixed.get(tensor, False) else 1
        return self._ops.get(op, 1)

    def _add_tensor(
        self, tensor: int, writer: int | None, *, readers: list[int | None]
    ) -> None:
        source = self._place(writer, tensor)
        sinks = {self._place(reader, tensor) for reader in readers} - {source}
        if not sinks:
            return
        # On the float side as soon as one reader is: then integers must be converted.
        some_float, some_integer = self._node(), self._node()
        self._add(source, some_float, self._costs.border_us(tensor, "DEQUANTIZE"))
        self._add(some_integer, source, self._costs.border_us(tensor, "QUANTIZE"))
        for sink in sinks:
            self._forced |= {(some_float, sink), (sink, some_integer)}

    def cut(self) -> set[int]:
        """Returns the ops on the integers' side of the least cut."""
        if not self._ops:
            return set()
        total = sum(self._arcs.values())
        units = min(_MOST_UNITS, _LARGEST / 4 / max(total, 1.0))
        arcs = {pair: round(cost * units) for pair, cost in self._arcs.items()}
        forced = {(t, h) for t, h in self._forced if t != h and t != 1 and h != 0}
        arcs |= dict.fromkeys(forced, _LARGEST)
        size = (self._nodes, self._nodes)
        tails, heads = zip(*arcs, strict=True)
        capacities = np.array(list(arcs.values()), np.int32)
        network = sparse.csr_matrix((capacities, (tails, heads)), shape=size)
        flow = csgraph.maximum_flow(network, 0, 1).flow
        left = (network - flow).tocsr()
        left.data = np.maximum(left.data, 0)
        left.eliminate_zeros()
        # From the sink backwards: of equal cuts the one with most in integers.
        reaching = csgraph.breadth_first_order(
            left.T.tocsr(), 1, return_predecessors=False
        )
        floats = set(reaching.tolist())
        return {op for op, node in self._ops.items() if node not in floats}
