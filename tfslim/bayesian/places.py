"""Random scales put into a graph, and taken out of it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from tfslim import ops
from tfslim.bayesian.variational import VariationalScale, starting_scale
from tfslim.graph import ir
from tfslim.pruning import channels as channels_lib
from tfslim.pruning.labels import LabelArray
from tfslim.pruning.places import Places

# f(c x) = c f(x) for c > 0, as names in a layer's config.
_HOMOGENEOUS = ops.keras("homogeneous") | {None, "linear"}
_LINEAR = ops.keras("convolution", "separable", "transposed") | {"Dense"}


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where channels are made.

    Attributes:
        node: the call whose output is multiplied.
        labels: one per channel.
        axis: that of the channels, from the end.
        weights: weight of a layer and its axis that a mean can go into; empty where
            it can go nowhere.
    """

    node: int
    labels: LabelArray
    axis: int
    weights: tuple[tuple[str, str, int], ...]


class NoisyGraph:
    """A graph whose channels are multiplied by random scales.

    All layers that make the same channels share one layer of scales.

    Attributes:
        graph: with the scales.
        skipped: layers without one, with the reason.
    """

    def __init__(self, channels: channels_lib.Channels, *, gain: float):
        """Puts the scales in.

        Args:
            channels: the analysis of the graph.
            gain: see `VariationalScale`.
        """
        self._channels = channels
        self.skipped: dict[str, str] = {}
        places = list(self._find())
        self._shared: dict[bytes, list[_Place]] = {}
        for place in places:
            self._shared.setdefault(place.labels.tobytes(), []).append(place)
        self._names = {
            key: self._free_name(found[0]) for key, found in self._shared.items()
        }
        self.graph = self._insert({place.node: place for place in places}, gain)

    def _free_name(self, place: _Place) -> str:
        graph = self._channels.graph
        name = f"scale_of_{graph.nodes[place.node].layer}"
        while name in graph.layers:
            name += "_"
        return name

    def _find(self) -> Iterator[_Place]:
        channels = self._channels
        graph, places = channels.graph, Places(channels.graph)
        prunable = np.zeros(channels.num_labels, bool)
        producers = set()
        for group in channels.groups:
            prunable[group.labels] = True
            producers |= set(group.producers)
        for number, node in enumerate(graph.nodes):
            if node.layer not in producers:
                continue
            labels = channels.wirings[number].outputs[0]
            if labels.size != max(labels.shape) or not prunable[labels].all():
                self.skipped[node.layer] = "not all of its channels can be removed"
                continue
            axis = int(np.argmax(labels.shape)) - labels.ndim
            norm = None
            if places.is_called_once(node.layer):
                norm = places.of(node.layer).norm
            weights = tuple(_scalable(channels, number, norm=norm))
            if norm is not None:
                number = next(
                    n for n, other in enumerate(graph.nodes) if other.layer == norm
                )
            yield _Place(number, labels.ravel(), axis, weights)

    def _insert(self, places: Mapping[int, _Place], gain: float) -> ir.Graph:
        old = self._channels.graph
        layers, nodes = dict(old.layers), []
        now: dict[ir.TensorRef, ir.TensorRef] = {}
        for number, node in enumerate(old.nodes):
            nodes.append(
                dataclasses.replace(
                    node,
                    args=ir.substitute(node.args, now),
                    kwargs=ir.substitute(node.kwargs, now),
                )
            )
            for port in range(len(node.shapes)):
                now[ir.TensorRef(number, port)] = ir.TensorRef(len(nodes) - 1, port)
            place = places.get(number)
            if place is None:
                continue
            name = self._names[place.labels.tobytes()]
            made = ir.TensorRef(len(nodes) - 1)
            nodes.append(ir.Node(name, (made,), node.shapes[:1]))
            now[ir.TensorRef(number)] = ir.TensorRef(len(nodes) - 1)
            layers[name] = self._scale(name, place, gain)
        return dataclasses.replace(
            old,
            layers=layers,
            nodes=tuple(nodes),
            inputs=ir.substitute(old.inputs, now),
            outputs=ir.substitute(old.outputs, now),
        )

    def _scale(self, name: str, place: _Place, gain: float) -> ir.Layer:
        alike = self._shared[place.labels.tobytes()]
        has_mean = all(one.weights for one in alike)
        return ir.Layer(
            name,
            "VariationalScale",
            {"axis": place.axis, "gain": gain, "has_mean": has_mean},
            {"scale": starting_scale(len(place.labels), gain)},
            keras_class=VariationalScale,
        )

    def take_out(self, trained: ir.Graph) -> tuple[ir.Graph, ir.Array]:
        """Returns the trained graph without the scales, and log alpha of each label.

        The means go into the weights before them. Labels without a scale have -inf.

        Args:
            trained: `graph` with other weights.
        """
        old = self._channels.graph
        layers = {name: trained.layers[name] for name in old.layers}
        log_alpha = np.full(self._channels.num_labels, -np.inf)
        for key, places in self._shared.items():
            scale = trained.layers[self._names[key]]
            native = VariationalScale.from_config(
                {**scale.config, "name": self._names[key]}
            )
            value = scale.weights["scale"]
            found = native.log_alpha(value).numpy()
            # Where several scales make a channel, one that is no noise holds it.
            labels = places[0].labels
            log_alpha[labels] = np.where(
                np.isinf(log_alpha[labels]), found, np.minimum(log_alpha[labels], found)
            )
            if native.has_mean:
                targets = {target for place in places for target in place.weights}
                for layer, weight, axis in sorted(targets):
                    layers[layer] = _multiplied(
                        layers[layer], weight, axis=axis, by=value[0]
                    )
        return dataclasses.replace(old, layers=layers), log_alpha


def _scalable(
    channels: channels_lib.Channels, number: int, *, norm: str | None
) -> Iterator[tuple[str, str, int]]:
    """Yields the weights by which the output of a place can be multiplied."""
    graph = channels.graph
    if norm is not None:
        weights = graph.layers[norm].weights
        if "gamma" in weights:
            yield from (
                (norm, name, 0) for name in ("beta", "gamma") if name in weights
            )
        return
    layer = graph.layer_of(graph.nodes[number])
    wiring = channels.wirings[number]
    if layer.op not in _LINEAR or layer.config.get("activation") not in _HOMOGENEOUS:
        return
    made = wiring.outputs[0].ravel()
    for name, axes in wiring.weights.items():
        for axis, labels in enumerate(axes):
            if (
                labels is not None
                and wiring.sums.get(name) != axis
                and np.array_equal(labels, made)
            ):
                yield layer.name, name, axis


def _multiplied(layer: ir.Layer, weight: str, *, axis: int, by: ir.Array) -> ir.Layer:
    value = layer.weights[weight]
    shape = [1] * value.ndim
    shape[axis] = -1
    scaled = (value * by.reshape(shape)).astype(value.dtype)
    return dataclasses.replace(layer, weights={**layer.weights, weight: scaled})
