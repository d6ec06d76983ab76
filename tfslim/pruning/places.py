"""Where a layer stands: what it reads, and what its output alone is made into."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np

from tfslim.graph import ir

_SUMS = ("Add", "add")


@dataclasses.dataclass(frozen=True)
class Place:
    """The surroundings of a layer that is called once.

    Attributes:
        node: the number of its call.
        inputs: what it reads.
        norm: the batch normalization that alone reads its output, if there is one.
        total: the sum that alone reads what comes out of both, if there is one.
        others: the other terms of that sum.
    """

    node: int
    inputs: ir.TensorRef
    norm: str | None = None
    total: ir.TensorRef | None = None
    others: tuple[ir.TensorRef, ...] = ()


class Places:
    """The places of a graph's layers."""

    def __init__(self, graph: ir.Graph):
        """Looks up who reads what."""
        self._graph = graph
        self._calls = collections.Counter(node.layer for node in graph.nodes)
        self._readers: dict[ir.TensorRef, list[int]] = {}
        for number, node in enumerate(graph.nodes):
            for ref in node.inputs:
                self._readers.setdefault(ref, []).append(number)
        for ref in graph.output_refs:
            self._readers.setdefault(ref, []).append(-1)

    def is_called_once(self, name: str) -> bool:
        """Tells whether the graph calls a layer in one place only."""
        return self._calls[name] == 1

    def of(self, name: str) -> Place:
        """Returns the place of a layer that is called once."""
        graph = self._graph
        number = next(n for n, node in enumerate(graph.nodes) if node.layer == name)
        place = Place(number, graph.nodes[number].inputs[0])
        if graph.layers[name].config.get("activation") not in (None, "linear"):
            return place
        reader = self._only_reader(number)
        if reader is not None and self._is_norm_of(reader, number):
            place = dataclasses.replace(place, norm=graph.nodes[reader].layer)
            number, reader = reader, self._only_reader(reader)
        if reader is None or graph.layer_of(graph.nodes[reader]).op not in _SUMS:
            return place
        terms = graph.nodes[reader].inputs
        total = ir.TensorRef(reader)
        if any(graph.shape(ref) != graph.shape(total) for ref in terms):
            return place
        others = tuple(ref for ref in terms if ref.node != number)
        return dataclasses.replace(place, total=total, others=others)

    def _only_reader(self, number: int) -> int | None:
        found = self._readers.get(ir.TensorRef(number), [])
        return found[0] if len(found) == 1 and found[0] >= 0 else None

    def _is_norm_of(self, reader: int, number: int) -> bool:
        """Tells whether a node normalizes the channels of another, as in inference."""
        node, graph = self._graph.nodes[reader], self._graph
        layer = graph.layer_of(node)
        if layer.op != "BatchNormalization" or not self.is_called_once(layer.name):
            return False
        if node.kwargs.get("training"):
            return False
        made = graph.layer_of(graph.nodes[number])
        is_first = made.config.get("data_format") == "channels_first"
        axis = layer.config["axis"]
        axis = axis[0] if isinstance(axis, list | tuple) else axis
        ndim = len(graph.shape(ir.TensorRef(number)))
        return bool(axis % ndim == (1 if is_first else ndim - 1))


@dataclasses.dataclass(frozen=True)
class Affine:
    """What a layer's output is multiplied by and added to, channel by channel."""

    scale: ir.Array
    shift: ir.Array

    @classmethod
    def of(cls, norm: ir.Layer | None, width: int) -> Affine:
        """Returns that of a batch normalization in inference; None changes nothing."""
        if norm is None:
            return cls(np.ones(width), np.zeros(width))
        weights = {n: w.astype(np.float64) for n, w in norm.weights.items()}
        scale = weights.get("gamma", 1.0) / np.sqrt(
            weights["moving_variance"] + norm.config["epsilon"]
        )
        return cls(scale, weights.get("beta", 0.0) - weights["moving_mean"] * scale)
