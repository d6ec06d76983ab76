"""Which channels of a graph can be removed, and which only together.

A walk through the graph gives every tensor labels for its channels (`labels.py`); one
rule per op says how (`rules/`). Channels whose labels are united fall together. A
group is the largest set of channels that travel through the same tensors: the outputs
of one convolution, or of all that are added up along a residual trunk.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfslim import checks, errors, registry
from tfslim.graph import ir
from tfslim.pruning.labels import FIXED, LabelArray, Labels
from tfslim.pruning.rules import base, normalization, probed, recurrent

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Member:
    """One axis of a weight that a group's channels cut.

    Attributes:
        layer: the layer's name.
        weight: the weight's name in the layer.
        axis: the axis of the weight.
        channels: for each position on that axis, the channel of the group, -1 for
            positions that belong to other groups.
    """

    layer: str
    weight: str
    axis: int
    channels: LabelArray


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels of which each can be kept or removed.

    Attributes:
        name: the layer that makes the channels first.
        labels: one label per channel, ascending.
        producers: every layer whose output channels these are.
    """

    name: str
    labels: LabelArray
    producers: tuple[str, ...]

    def __len__(self) -> int:
        """The number of channels."""
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Channels:
    """The channels of a graph: how calls carry them and how they group.

    Attributes:
        graph: what was analyzed.
        wirings: one per node, in terms of united labels.
        groups: what can be pruned, in the order of the graph.
        skipped: layers whose outputs stay, with the reason in one line.
        num_labels: labels run from 0 to this.
    """

    graph: ir.Graph
    wirings: tuple[base.Wiring, ...]
    groups: tuple[Group, ...]
    skipped: Mapping[str, str]
    num_labels: int

    @functools.cached_property
    def by_name(self) -> dict[str, Group]:
        """The groups by name."""
        return {group.name: group for group in self.groups}

    def mask(self, keep: Mapping[str, Mask]) -> Mask:
        """Returns, for each label, whether it stays.

        Args:
            keep: for each group to cut, one bool per channel; others stay whole.

        Raises:
            ConfigError: there is no such group, the number of channels is another,
                or no channel would be left.
        """
        mask = np.ones(self.num_labels, bool)
        for name, kept in keep.items():
            if name not in self.by_name:
                raise registry.unknown_name("channel group", name, known=self.by_name)
            group = self.by_name[name]
            kept = np.asarray(kept, bool)
            if kept.shape != (len(group),) or not kept.any():
                raise errors.ConfigError(
                    f"Group '{name}' has {len(group)} channels; keep needs one bool "
                    f"for each and at least one that is true, got shape {kept.shape} "
                    f"with {int(kept.sum())} true."
                )
            mask[group.labels] = kept
        return mask

    def members(self, group: Group) -> Sequence[Member]:
        """Returns every weight axis that makes or passes the group's channels.

        Axes that only take the channels in (a kernel's inputs) are left out.
        """
        return self._members.get(group.name, ())

    @functools.cached_property
    def _members(self) -> dict[str, list[Member]]:
        owners = np.full(self.num_labels, -1)
        places = np.full(self.num_labels, -1)
        for number, group in enumerate(self.groups):
            owners[group.labels] = number
            places[group.labels] = np.arange(len(group))
        members: dict[str, list[Member]] = {}
        for (layer, weight, axis), vector in self._made_axes().items():
            owner = owners[vector]
            for number in np.unique(owner[owner >= 0]):
                channels = np.where(owner == number, places[vector], -1)
                member = Member(layer, weight, axis, channels)
                members.setdefault(self.groups[number].name, []).append(member)
        return members

    def _made_axes(self) -> dict[tuple[str, str, int], LabelArray]:
        """Returns the labels of every weight axis that is not summed over."""
        return {
            (node.layer, weight, axis): vector
            for node, wiring in zip(self.graph.nodes, self.wirings, strict=True)
            for weight, axes in wiring.weights.items()
            for axis, vector in enumerate(axes)
            if vector is not None
            and weight in self.graph.layers[node.layer].weights
            and wiring.sums.get(weight) != axis
        }


def analyze(
    graph: ir.Graph, *, ignore: Sequence[str] = (), cut_layer_norms: bool = False
) -> Channels:
    """Finds the channels of a graph that can be pruned.

    Args:
        graph: any graph; what has no rule is left whole.
        ignore: names or patterns (`block_1_*`) of layers whose outputs stay whole.
        cut_layer_norms: cut through layer normalizations, though their mean and
            variance are then others: fine-tune after it.

    Raises:
        ConfigError: a pattern matches no layer.
    """
    checks.matching("layer", ignore, names=graph.layers)
    tracer = _Tracer(graph, ignore, cut_layer_norms=cut_layer_norms)
    for node in graph.nodes:
        tracer.trace(node)
    for ref in graph.output_refs:
        tracer.labels.explain(tracer.tensors[ref], "is an output of the model")
    return tracer.result()


class _Tracer:
    """Walks through a graph and gives every tensor its labels."""

    def __init__(
        self, graph: ir.Graph, ignore: Sequence[str], *, cut_layer_norms: bool
    ):
        self._graph = graph
        self._ignore = ignore
        self._cut_layer_norms = cut_layer_norms
        self._wirings: list[base.Wiring] = []
        self._made: dict[str, dict[str, LabelArray]] = {}
        self._cut: dict[tuple[str, str, int], LabelArray] = {}
        self._whole: dict[str, str] = {}
        self.labels = Labels()
        self.tensors: dict[ir.TensorRef, LabelArray] = {}

    def trace(self, node: ir.Node) -> None:
        """Adds the labels of one call."""
        layer = self._graph.layer_of(node)
        call = base.Call(
            layer=layer,
            node=node,
            inputs=[self.tensors[ref] for ref in node.inputs],
            shapes=[self._graph.shape(ref) for ref in node.inputs],
            labels=self.labels,
            made=self._made.setdefault(layer.name, {}),
        )
        rule = self._rule(layer)
        if rule is base.unknown and layer.weights:
            self._whole[layer.name] = f"{layer.op} has no rule, so it is left whole"
        wiring = rule(call)
        outputs = tuple(self._settled(call, labels) for labels in wiring.outputs)
        if any(fnmatch.fnmatchcase(layer.name, p) for p in self._ignore):
            for labels in (*outputs, *call.made.values()):
                self.labels.freeze(labels, "ignored as asked")
        for weight, axes in wiring.weights.items():
            for axis, vector in enumerate(axes):
                if vector is not None:
                    self._tie(call, (layer.name, weight, axis), vector=vector)
        number = len(self._wirings)
        for port, labels in enumerate(outputs):
            self.tensors[ir.TensorRef(number, port)] = labels
        self._wirings.append(dataclasses.replace(wiring, outputs=outputs))

    def _rule(self, layer: ir.Layer) -> base.Rule:
        if probed.is_function(layer):
            return probed.rule
        is_known = layer.keras_class is None or recurrent.is_both_ways(layer)
        if not is_known or layer.op not in base.RULES:
            return base.unknown
        if self._cut_layer_norms and layer.op == "LayerNormalization":
            return normalization.cut_layer_normalization
        return base.RULES.get(layer.op)

    def _settled(self, call: base.Call, labels: LabelArray) -> LabelArray:
        """A tensor of one channel stays: without it there would be nothing."""
        if labels.size == 1 and labels.item() != FIXED:
            call.freeze(labels, "has a single channel")
            return np.full(labels.shape, FIXED)
        return labels

    def _tie(
        self, call: base.Call, place: tuple[str, str, int], *, vector: LabelArray
    ) -> None:
        """A weight that several calls share is cut by all of them alike."""
        if place in self._cut:
            call.unite(self._cut[place], vector)
        else:
            self._cut[place] = vector

    def result(self) -> Channels:
        """Returns all in terms of roots."""
        wirings = tuple(
            base.Wiring(
                tuple(map(self.labels.roots, wiring.outputs)),
                {
                    weight: tuple(
                        None if vector is None else self.labels.roots(vector)
                        for vector in axes
                    )
                    for weight, axes in wiring.weights.items()
                },
                wiring.sums,
                _map_sizes(self.labels.roots, wiring.sizes),
            )
            for wiring in self._wirings
        )
        frozen = self.labels.frozen()
        made = {
            layer: np.unique(self.labels.roots(made["out"]))
            for layer, made in self._made.items()
            if "out" in made and self._graph.layers[layer].op != "Constant"
        }
        skipped = {
            layer: self.labels.reason(roots[0]) or "stays"
            for layer, roots in made.items()
            if frozen[roots].all()
        }
        skipped |= self._whole
        prunable = {layer: roots[~frozen[roots]] for layer, roots in made.items()}
        return Channels(
            graph=self._graph,
            wirings=wirings,
            groups=_groups(wirings, prunable, num_labels=len(self.labels)),
            skipped=skipped,
            num_labels=len(self.labels),
        )


def _map_sizes(function: Any, sizes: Any) -> Any:
    return ir.map_leaves(
        lambda leaf: function(leaf) if isinstance(leaf, np.ndarray) else leaf, sizes
    )


def _groups(
    wirings: Sequence[base.Wiring], made: Mapping[str, LabelArray], *, num_labels: int
) -> tuple[Group, ...]:
    """Partitions labels into those that occur in the same tensors and weights."""
    prunable = np.unique(np.concatenate([np.empty(0, np.int64), *made.values()]))
    places = np.full(num_labels, -1)
    places[prunable] = np.arange(len(prunable))
    part = np.zeros(len(prunable), np.int64)
    for labels in _distinct(wirings):
        inside = places[labels]
        inside = inside[inside >= 0]
        # What was one part and is inside becomes a new part; the rest stays behind.
        _, split = np.unique(part[inside], return_inverse=True)
        part[inside] = split + part.max(initial=0) + 1
    _, firsts = np.unique(part, return_index=True)
    firsts = np.sort(firsts)
    # All channels of a group have the same producers, so the first speaks for them.
    producers: list[list[str]] = [[] for _ in firsts]
    for layer, roots in made.items():
        for place in np.flatnonzero(np.isin(prunable[firsts], roots)):
            producers[place].append(layer)
    groups = []
    names: dict[str, int] = {}
    for first, layers in zip(firsts, producers, strict=True):
        names[layers[0]] = number = names.get(layers[0], -1) + 1
        name = f"{layers[0]}:{number}" if number else layers[0]
        groups.append(Group(name, prunable[part == part[first]], tuple(layers)))
    return tuple(groups)


def _distinct(wirings: Sequence[base.Wiring]) -> Iterator[LabelArray]:
    """Yields every vector of labels once, of tensors and of weights."""
    seen = set()
    for wiring in wirings:
        axes = [axis for axes in wiring.weights.values() for axis in axes]
        for labels in (*wiring.outputs, *axes):
            if labels is not None and labels.size > 1:
                key = labels.tobytes()
                if key not in seen:
                    seen.add(key)
                    yield labels
