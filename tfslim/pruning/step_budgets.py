"""A target reached in steps: what each step may still keep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container

import numpy as np

from tfslim import checks, errors
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import scores as scores_lib


class StepBudgets:
    """Splits a budget for the whole model into one budget for each step.

    Ratios count from the original widths, so that rounding a width up to a multiple
    of the divisor in one step is made good in the next.
    """

    def __init__(
        self,
        channels: channels_lib.Channels,
        budget: budget_lib.Budget,
        *,
        steps: int,
        curve: str,
    ):
        """Takes the original model's channels and the target.

        Raises:
            ConfigError: steps or curve are wrong, a pattern fits no group, or the
                limit is out of reach.
        """
        self._budget = budget
        self._steps = steps
        self._curve = curve
        self._widths = {group.name: len(group) for group in channels.groups}
        checks.matching("channel group", budget.ratios, names=self._widths)
        self._limit = budget_lib.limit_of(budget)
        budget_lib.schedule(0.0, steps, curve=curve)
        self._start = 0.0
        if self._limit is not None:
            self._start = budget_lib.cost_of(channels.graph, budget)
        if self._limit is not None and budget.cost is None:
            # Out of reach for any order of the channels: better known before training.
            equal = {group.name: np.ones(len(group)) for group in channels.groups}
            budget_lib.plan(channels, scores_lib.Scores(equal, {}), budget=budget)

    def budget(
        self, step: int, channels: channels_lib.Channels, scored: Container[str]
    ) -> budget_lib.Budget:
        """Returns the budget of step `step`, from 0, for what is left of the model.

        Args:
            step: its number.
            channels: those that are left.
            scored: names of the groups that can be cut.
        """
        if self._limit is not None:
            wanted = getattr(self._budget, self._limit)
            share = self._share(max(0.0, 1.0 - wanted / self._start), step)
            limit = max(wanted, self._start * (1.0 - share))
            return dataclasses.replace(self._budget, **{self._limit: limit})
        general = self._share(self._budget.pruning_ratio or 0.0, step)
        groups = [group for group in channels.groups if group.name in scored]
        own = {
            group.name: self._missing(group, self._own(group.name, step, general))
            for group in groups
            if self._budget.scope == "uniform"
            or budget_lib.ratio_of(self._budget, group.name) is not None
        }
        rest = [group for group in groups if group.name not in own]
        before = sum(self._widths.get(group.name, len(group)) for group in rest)
        now = sum(len(group) for group in rest)
        ratio = max(0.0, 1.0 - (1.0 - general) * before / now) if now else 0.0
        return dataclasses.replace(self._budget, pruning_ratio=ratio, ratios=own)

    def removed(self, channels: channels_lib.Channels) -> float:
        """Returns the share of the original channels that are gone, in [0, 1)."""
        before = sum(self._widths.values())
        now = sum(len(group) for group in channels.groups)
        return 1.0 - now / before if before else 0.0

    def _share(self, target: float, step: int) -> float:
        if target >= 1.0:
            raise errors.ConfigError(
                f"{self._limit} must be above 0, got "
                f"{getattr(self._budget, self._limit or '')}."
            )
        return budget_lib.schedule(target, self._steps, curve=self._curve)[step]

    def _own(self, name: str, step: int, general: float) -> float:
        ratio = budget_lib.ratio_of(self._budget, name)
        return general if ratio is None else self._share(ratio, step)

    def _missing(self, group: channels_lib.Group, ratio: float) -> float:
        """Returns the ratio by what is left that gives `ratio` by the original."""
        original = self._widths.get(group.name, len(group))
        kept = max(1, original - math.floor(original * ratio + 1e-9))
        return max(0.0, 1.0 - kept / len(group))
