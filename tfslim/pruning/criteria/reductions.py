"""One score per channel out of those that the members of its group give it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tfslim import registry
from tfslim.pruning.criteria import base

# float64 [members, channels] -> [channels]. The members stand in the graph's order,
# producers first; a layer that sees a channel at several positions (Dense after
# Flatten) comes as one row for each.
Reduction: TypeAlias = Callable[[base.Scores], base.Scores]

REDUCTIONS: registry.Registry[Reduction] = registry.Registry("reduction")


@REDUCTIONS.register("sum")
def sum_of_members(scores: base.Scores) -> base.Scores:
    """Adds the members' scores: all that goes when the channel goes."""
    return scores.sum(axis=0)


@REDUCTIONS.register("mean")
def mean_of_members(scores: base.Scores) -> base.Scores:
    """Averages the members' scores: does not grow with the size of the group."""
    return scores.mean(axis=0)


@REDUCTIONS.register("max")
def max_of_members(scores: base.Scores) -> base.Scores:
    """Takes the largest: a channel stays if one member needs it."""
    return scores.max(axis=0)


@REDUCTIONS.register("first")
def first_member(scores: base.Scores) -> base.Scores:
    """Takes the first member's score: the layer that makes the channels decides."""
    return scores[0]
