"""What a rule gets and gives: how one op carries channels from inputs to outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.labels import FIXED, LabelArray, Labels
from tfslim.registry import Registry


@dataclasses.dataclass(frozen=True)
class Wiring:
    """How one call ties labels to its outputs and to its layer's weights.

    Attributes:
        outputs: the labels of each output.
        weights: for each weight that channels cut, the labels along each of its
            axes; None for an axis that is not cut.
        sums: for each weight that mixes channels, the axis that is summed over. A
            channel that is zero there is as good as cut.
        sizes: for each option of the config that counts channels, the labels that
            are counted, nested as the option is; plain data stays.
    """

    outputs: tuple[LabelArray, ...]
    weights: Mapping[str, tuple[LabelArray | None, ...]] = dataclasses.field(
        default_factory=dict
    )
    sums: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer, with the labels of its inputs.

    Attributes:
        layer: what is called.
        node: the call itself.
        inputs: labels of each input tensor.
        shapes: shape of each input tensor.
        labels: all labels so far.
        made: the labels that this layer made in its first call, by purpose.
    """

    layer: ir.Layer
    node: ir.Node
    inputs: Sequence[LabelArray]
    shapes: Sequence[ir.Shape]
    labels: Labels
    made: dict[str, LabelArray]

    @property
    def channel_axis(self) -> int:
        """The axis of channels of the first input, counted from the front."""
        if self.layer.config.get("data_format") == "channels_first":
            return 1
        return len(self.shapes[0]) - 1

    def fresh(self, count: int, purpose: str = "out") -> LabelArray:
        """Returns new labels, the same ones in every call of a shared layer."""
        if purpose not in self.made:
            self.made[purpose] = self.labels.fresh(count)
        return self.made[purpose]

    def freeze(self, labels: LabelArray, why: str) -> None:
        """Forbids to cut labels because of this call; `why` continues its name."""
        self.labels.freeze(labels, f"'{self.layer.name}' ({self.layer.op}) {why}")

    def unite(self, first: LabelArray, second: LabelArray) -> None:
        """Ties labels at equal positions."""
        reason = (
            f"'{self.layer.name}' ({self.layer.op}) joins it with channels that stay"
        )
        self.labels.unite(first, second, reason)

    def along(self, axis: int, number: int = 0) -> LabelArray:
        """Returns the labels of an input along one axis, as a vector.

        Labels that depend on another axis than this are frozen: the caller works on
        whole positions.
        """
        array, size = self.inputs[number], self.shapes[number][axis]
        if any(n > 1 for a, n in enumerate(array.shape) if a != axis):
            self.freeze(array, "cannot follow channels on another axis")
            array = np.full((1,), FIXED)
        if size is None:
            return np.full(1, FIXED)
        return np.broadcast_to(array.reshape(-1), (size,))

    def on_axis(self, vector: LabelArray, axis: int, *, ndim: int) -> LabelArray:
        """Returns a vector of labels as labels of a tensor, along one axis."""
        shape = [1] * ndim
        shape[axis] = len(vector)
        return vector.reshape(shape)


Rule: TypeAlias = Callable[[Call], Wiring]
RULES: Registry[Rule] = Registry("channel rule")


def register(*ops: str) -> Callable[[Rule], Rule]:
    """Returns a decorator that makes a function the rule of several ops."""

    def decorate(rule: Rule) -> Rule:
        for op in ops:
            RULES.register(op)(rule)
        return rule

    return decorate


def unknown(call: Call) -> Wiring:
    """The rule of an op that has none: nothing that goes in or out is cut."""
    for labels in call.inputs:
        call.freeze(labels, "has no rule")
    return Wiring(tuple(np.full((1,) * len(s), FIXED) for s in call.node.shapes))


def varying(labels: LabelArray) -> list[int]:
    """Returns the axes on which the label depends on the position."""
    return [axis for axis, size in enumerate(labels.shape) if size > 1]


def compact(labels: LabelArray) -> LabelArray:
    """Returns labels with every axis 1 long on which they do not depend."""
    for axis in varying(labels):
        first = labels.take([0], axis=axis)
        if (labels == first).all():
            labels = first
    return labels


def separate(call: Call, labels: LabelArray) -> LabelArray:
    """Ties labels until they depend on one axis only, the last that they depend on.

    What is left of a tensor after a cut must be a whole block again. A Dense layer
    whose outputs are reshaped to [height, width, channels] so loses the outputs of
    all positions of a channel together.
    """
    labels = compact(call.labels.roots(labels))
    for axis in varying(labels)[:-1]:
        first = labels.take([0], axis=axis)
        call.unite(labels, first)
        labels = first
    return labels
