"""From the zeros of a kernel to the share of its channels that can go.

Source: Xu, "Research on Model Compression Based on Convolutional Neural Network": the
sparsity of a kernel that was trained with an L1 penalty is its compression ratio.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import checks, errors
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import surgery

_KERNELS = ("kernel", "pointwise_kernel")
_LARGEST = 1.0 - 1e-9


def ratios_from_sparsity(model: Any, *, threshold: float = 0.0) -> dict[str, float]:
    """Returns, for each layer with a kernel, the share of its weights that are zero.

    A layer whose kernel is all zero keeps one channel. Give the result to
    `prune_channels(model, ratios=...)`.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3, or its graph.
        threshold: magnitude up to which a weight counts as zero.

    Returns:
        Layer -> ratio in [0, 1), in the order of the model.

    Raises:
        ConfigError: the threshold is below zero.
        GraphError: the model cannot be read.

    Example:
        smaller, report = prune_channels(model, ratios=ratios_from_sparsity(model))
    """
    checks.number("threshold", threshold, span="[0, inf)")
    graph = model if isinstance(model, ir.Graph) else graph_keras.read(model)
    ratios = {}
    for layer in graph.layers.values():
        kernels = [layer.weights[name] for name in _KERNELS if name in layer.weights]
        if kernels and kernels[0].ndim > 1:
            zeros = float((np.abs(kernels[0]) <= threshold).mean())
            axis = -2 if layer.op.endswith("Transpose") else -1
            ratios[layer.name] = min(zeros, 1.0 - 1.0 / kernels[0].shape[axis])
    return ratios


def group_ratios(
    channels: channels_lib.Channels, ratios: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """Brings ratios of layers to the groups of channels that fall together.

    A group takes the mean ratio of those layers that make its channels.

    Args:
        channels: the analysis of a graph.
        ratios: name or pattern of a layer -> ratio in [0, 1); the first that fits
            counts.

    Returns:
        Group -> ratio, for groups with a layer that has one; and layer -> why its
        ratio was not used, for layers whose channels stay.

    Raises:
        ConfigError: a ratio is out of range, or fits no layer.
    """
    layers = channels.graph.layers
    for pattern, ratio in ratios.items():
        budget_lib.check_ratio(ratio, f"The ratio of '{pattern}'")
    checks.matching("layer", ratios, names=layers)
    own = {}
    for layer in layers:
        fits = [r for p, r in ratios.items() if fnmatch.fnmatchcase(layer, p)]
        if fits:
            own[layer] = fits[0]
    used = {}
    for group in channels.groups:
        found = [own[producer] for producer in group.producers if producer in own]
        if found:
            used[group.name] = float(np.mean(found))
    producers = {producer for group in channels.groups for producer in group.producers}
    unused = {
        layer: f"its ratio of {ratio:.3g} was not used: "
        + channels.skipped.get(layer, "it makes no channels of its own")
        for layer, ratio in own.items()
        if layer not in producers and ratio > 0.0
    }
    return used, unused


def required_limit(budget: budget_lib.Budget) -> str:
    """Returns the name of the limit that a budget sets.

    Raises:
        ConfigError: it has none.
    """
    limit = budget_lib.limit_of(budget)
    if limit is None:
        raise errors.ConfigError(
            "The ratios follow from the kernels; a budget for them needs a limit, "
            "max_macs for instance, and no pruning_ratio."
        )
    return limit


def meet_limit(
    channels: channels_lib.Channels,
    ratios: Mapping[str, float],
    *,
    budget: budget_lib.Budget,
) -> dict[str, float]:
    """Returns ratios, raised or lowered together, that just meet a limit.

    Where the ratios alone do not suffice, the shares that the groups keep are
    multiplied by one factor; where they do, the ratios are.

    Args:
        channels: the analysis of the graph to cut.
        ratios: group -> ratio.
        budget: one with a limit; its `min_channels` and `divisor` count.

    Raises:
        ConfigError: there is no limit, or it cannot be met.
    """
    limit = required_limit(budget)

    def at(effort: float) -> dict[str, float]:
        # The ratios themselves lie in the middle.
        less, more = min(1.0, 2.0 * effort), max(0.0, 2.0 * effort - 1.0)
        return {
            name: min(_LARGEST, 1.0 - (1.0 - ratio * less) * (1.0 - more))
            for name, ratio in ratios.items()
        }

    def cost(effort: float) -> float:
        keep = {
            name: budget_lib.select_channels(
                np.zeros(len(channels.by_name[name])),
                pruning_ratio=ratio,
                divisor=budget.divisor,
                min_channels=budget.min_channels,
            )
            for name, ratio in at(effort).items()
        }
        graph, _ = surgery.cut_channels(channels.graph, keep, channels=channels)
        return budget_lib.cost_of(graph, budget)

    most = getattr(budget, limit)
    return at(budget_lib.search_ratio(cost, most, noun=limit))
