"""The importance of every channel of every group, from a criterion on its layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.graph import ir
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import criteria

# The weights whose channel axis makes new channels; of attention all four kernels.
_KERNELS = ("kernel", "pointwise_kernel", "embeddings", "recurrent_kernel")


@dataclasses.dataclass(frozen=True)
class BatchStatistics:
    """What one batch of data showed, for criteria that look at data.

    Attributes:
        weights: layer -> weight -> array name ("gradient", "hessian") -> array of the
            weight's shape.
        layers: layer -> array name ("activations", "activation_gradients") -> float
            [batch, ..., channels], behind the layer's activation function.
    """

    weights: Mapping[str, Mapping[str, Mapping[str, ir.Array]]] = dataclasses.field(
        default_factory=dict
    )
    layers: Mapping[str, Mapping[str, ir.Array]] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """How channels are scored.

    Attributes:
        criterion: a name of `criteria.CRITERIA`, or a function of that form.
        statistics: one `BatchStatistics` a batch, for criteria that look at data; every
            batch is scored on its own and the scores are averaged.
        reduction: a name of `criteria.REDUCTIONS`: how the scores of the layers of a
            group become one.
        normalization: a name of `criteria.NORMALIZATIONS`: how the scores of a group
            are made comparable with another's.
    """

    criterion: str | criteria.Criterion = "l1_norm"
    statistics: Iterable[BatchStatistics] = ()
    reduction: str = "mean"
    normalization: str = "mean"


@dataclasses.dataclass(frozen=True)
class Scores:
    """The importance of channels.

    Attributes:
        groups: group -> float64 [channels], larger is more important.
        unscored: group -> why the criterion has no score for it.
        sizes: group -> columns that a channel of it has, for heads of attention.
    """

    groups: Mapping[str, ir.Array]
    unscored: Mapping[str, str]
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)


def score_channels(channels: channels_lib.Channels, scoring: Scoring) -> Scores:
    """Scores the channels of every group.

    Args:
        channels: the analysis of the graph that has the weights.
        scoring: the criterion and its options.

    Raises:
        ConfigError: an unknown name, or a criterion without its statistics.
    """
    function = criteria.resolve(scoring.criterion)
    reduce = criteria.REDUCTIONS.get(scoring.reduction)
    normalize = criteria.NORMALIZATIONS.get(scoring.normalization)
    needs = criteria.needed_arrays(function)
    statistics = scoring.statistics
    if not needs & criteria.DATA_ARRAYS:
        statistics = (BatchStatistics(),)
    sums: dict[str, ir.Array] = {}
    batches = 0
    for batch in statistics:
        batches += 1
        for group in channels.groups:
            rows = list(_rows(channels, group, criterion=function, batch=batch))
            if rows:
                sums[group.name] = sums.get(group.name, 0.0) + reduce(np.stack(rows))
    if not batches:
        raise errors.ConfigError(
            f"The criterion needs {', '.join(sorted(needs))}: pass data to gather it "
            "from."
        )
    unscored = {
        group.name: f"has no {' and '.join(sorted(needs))} to score"
        for group in channels.groups
        if group.name not in sums
    }
    return Scores(
        {name: normalize(total / batches) for name, total in sums.items()},
        unscored,
        _sizes(channels),
    )


def _sizes(channels: channels_lib.Channels) -> dict[str, int]:
    first = {g.name: channels.graph.layers[g.producers[0]] for g in channels.groups}
    return {
        name: int(layer.config["key_dim"])
        for name, layer in first.items()
        if layer.op == "MultiHeadAttention"
    }


def _rows(
    channels: channels_lib.Channels,
    group: channels_lib.Group,
    *,
    criterion: criteria.Criterion,
    batch: BatchStatistics,
) -> Any:
    """Yields the scores [channels] of the group by each member that has what it takes.

    A member that sees a channel at several positions (Dense after Flatten) adds them
    up.
    """
    needs = criteria.needed_arrays(criterion)
    for member in channels.members(group):
        arrays = _arrays(channels.graph, member, batch=batch)
        if not needs <= set(arrays):
            continue
        by_layer = needs <= {"activations", "activation_gradients"}
        axis = -1 if by_layer else member.axis
        scores = criteria.score(criterion, arrays, channel_axis=axis)
        inside = member.channels >= 0
        yield np.bincount(
            member.channels[inside], weights=scores[inside], minlength=len(group)
        )


def _arrays(
    graph: ir.Graph, member: channels_lib.Member, *, batch: BatchStatistics
) -> dict[str, ir.Array]:
    """Returns what is known of a member, by the names that criteria use."""
    weight = graph.layers[member.layer].weights[member.weight]
    if member.weight == "gamma" and weight.ndim == 1:
        return {"gamma": weight}
    if member.weight.rstrip("_0123456789") not in _KERNELS:
        return {}
    seen = batch.weights.get(member.layer, {}).get(member.weight, {})
    return {"kernel": weight, **seen, **batch.layers.get(member.layer, {})}
