"""The importance of every channel of every group, from a criterion on its layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfslim import errors, registry
from tfslim.graph import ir
from tfslim.pruning import channels as channels_lib
from tfslim.pruning.criteria import base

# The kernels whose channel axis makes new channels.
_MAKERS = ("kernel", "pointwise_kernel")


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What criteria that look at data need.

    Attributes:
        gradients: layer -> weight -> gradient of the loss, of the weight's shape.
        activations: layer -> what it gave, float [samples, channels].
    """

    gradients: Mapping[str, Mapping[str, ir.Array]] = dataclasses.field(
        default_factory=dict
    )
    activations: Mapping[str, ir.Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """How channels are scored.

    Attributes:
        criterion: a registered name or a function (see `criteria.base`).
        evidence: gradients or activations, for criteria that need them.
        reduction: how the scores of the layers of a group become one: `mean`, `sum`,
            `max`, or `first` (the first layer speaks for all).
        normalization: how the scores of a group are made comparable with another's:
            `mean` or `max` (divided by it), `lamp`, or `none`.
    """

    criterion: str | base.Criterion = "l1_norm"
    evidence: Evidence | None = None
    reduction: str = "mean"
    normalization: str = "mean"


@dataclasses.dataclass(frozen=True)
class Scores:
    """The importance of channels.

    Attributes:
        groups: group -> float64 [channels], larger is more important.
        unscored: group -> why the criterion has no score for it.
    """

    groups: Mapping[str, ir.Array]
    unscored: Mapping[str, str]


_REDUCTIONS: dict[str, Callable[[ir.Array], ir.Array]] = {
    "first": lambda scores: scores[0],
    "max": lambda scores: scores.max(axis=0),
    "mean": lambda scores: scores.mean(axis=0),
    "sum": lambda scores: scores.sum(axis=0),
}


def _lamp(scores: ir.Array) -> ir.Array:
    """Each squared score over the sum of those that are not smaller.

    Source: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning",
    ICLR 2021, https://arxiv.org/abs/2010.07611, on channels in place of weights.
    """
    order = np.argsort(-scores, kind="stable")
    squared = scores[order] ** 2
    result = np.empty_like(scores)
    result[order] = squared / np.maximum(np.cumsum(squared), 1e-30)
    return result


_NORMALIZATIONS: dict[str, Callable[[ir.Array], ir.Array]] = {
    "lamp": _lamp,
    "max": lambda scores: scores / max(scores.max(), 1e-30),
    "mean": lambda scores: scores / max(scores.mean(), 1e-30),
    "none": lambda scores: scores,
}


def score_channels(channels: channels_lib.Channels, scoring: Scoring) -> Scores:
    """Scores the channels of every group.

    Args:
        channels: the analysis of the graph that has the weights.
        scoring: the criterion and its options.

    Raises:
        ConfigError: an unknown name, or a criterion without its evidence.
    """
    function: Any = base.find(scoring.criterion)
    reduce = _choice("reduction", scoring.reduction, _REDUCTIONS)
    normalize = _choice("normalization", scoring.normalization, _NORMALIZATIONS)
    scorer = _Scorer(function, channels.graph, scoring.evidence or Evidence())
    groups, unscored = {}, {}
    for group in channels.groups:
        rows = [
            np.bincount(
                member.channels[member.channels >= 0],
                weights=scores[member.channels >= 0],
                minlength=len(group),
            )
            for member in channels.members(group)
            for scores in scorer.rows(member)
        ]
        if rows:
            groups[group.name] = normalize(reduce(np.stack(rows)))
        else:
            unscored[group.name] = f"has no {' and '.join(scorer.needs)} to score"
    return Scores(groups, unscored)


def _choice(
    kind: str, name: str, known: Mapping[str, Callable[[ir.Array], ir.Array]]
) -> Callable[[ir.Array], ir.Array]:
    if name not in known:
        raise registry.unknown_name(kind, name, known)
    return known[name]


class _Scorer:
    """Calls a criterion with what it needs of a layer."""

    def __init__(
        self, function: Callable[..., ir.Array], graph: ir.Graph, evidence: Evidence
    ):
        self.needs = base.needs(function)
        self._function = function
        self._graph = graph
        self._evidence = evidence
        for noun in ("gradient", "activations"):
            name = "gradients" if noun == "gradient" else noun
            if noun in self.needs and not getattr(evidence, name):
                raise errors.ConfigError(
                    f"The criterion needs {name}: pass evidence with {name} gathered "
                    "on data."
                )

    def rows(self, member: channels_lib.Member) -> list[ir.Array]:
        """Returns the scores of a member's positions, or nothing it can score."""
        weight = self._graph.layers[member.layer].weights[member.weight]
        if self.needs[0] == "gamma":
            found = [weight] if member.weight == "gamma" and weight.ndim == 1 else []
            return [self._checked(member, self._function(gamma)) for gamma in found]
        if member.weight not in _MAKERS:
            return []
        if self.needs[0] == "activations":
            seen = self._evidence.activations.get(member.layer)
            return [] if seen is None else [self._checked(member, self._function(seen))]
        arrays = [weight]
        if "gradient" in self.needs:
            gradients = self._evidence.gradients.get(member.layer, {})
            if member.weight not in gradients:
                return []
            arrays.append(gradients[member.weight])
        scores = self._function(*arrays, channel_axis=member.axis)
        return [self._checked(member, scores)]

    def _checked(self, member: channels_lib.Member, scores: ir.Array) -> ir.Array:
        scores = np.asarray(scores, np.float64)
        if scores.shape != member.channels.shape or not np.isfinite(scores).all():
            raise errors.ConfigError(
                f"The criterion gave {scores.shape} for layer '{member.layer}', which "
                f"has {len(member.channels)} channels; it must give one finite number "
                "for each."
            )
        return scores
