"""One cycle of activation pruning: units are counted, removed, and the rest trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfslim.activation import counts as activity_lib
from tfslim.activation import perturb
from tfslim.activation.merge import balance_units, merge_units
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import prune as cutting
from tfslim.pruning.reconstruct import reconstruct_kernels
from tfslim.training import training
from tfslim.training.job import Backup

# Batches that kernels are re-fitted on.
_FIT_BATCHES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cycle:
    """One cycle of counting, removing and training.

    Attributes:
        number: from 1.
        removed: units that went because they were active too seldom.
        merged: units that went because others say the same.
        units: those that are left, of all that are counted.
        rate: the highest activation rate among those removed, 0..1.
        params: weights that are left.
        macs: multiply-accumulates (1 MAC = 2 FLOPs) at batch 1 that are left.
        metric: after training; None without validation data.
        error: how far the cut is proved, see `PruneReport`.
        left_alone: layers and groups that are not counted or not cut, with the reason.
        is_kept: false for a cycle that lost too much and was undone.
    """

    number: int
    removed: int
    merged: int
    units: int
    rate: float
    params: int
    macs: int
    metric: float | None
    error: float
    left_alone: Mapping[str, str]
    is_kept: bool = True


@dataclasses.dataclass
class Cut:
    """A model with fewer units, before training."""

    model: Any
    removed: int
    merged: int
    rate: float
    left_alone: dict[str, str]
    error: float = 0.0

    @property
    def is_smaller(self) -> bool:
        """Whether there is something to train."""
        return bool(self.removed or self.merged)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same in all cycles."""

    backup: Backup
    kind: graph_keras.KerasName
    data: list[Any]
    fine_tune: training.Training | Callable[[Any], Any]
    perturbation: perturb.Perturbation
    merge: str | None
    reconstruct: bool
    budget: budget_lib.Budget | None
    # The layers that make units, also when a single one is left.
    makers: frozenset[str]
    random: np.random.Generator = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Begins the random numbers."""
        random = np.random.default_rng(self.perturbation.seed)
        object.__setattr__(self, "random", random)

    def start(self, graph: Any, *, is_trained: bool) -> Any:
        """Returns a copy of the user's model, trained."""
        if self.perturbation.l1:
            graph = perturb.with_l1(graph, self.perturbation.l1)
        model = graph_keras.write(graph, self.kind)
        return model if is_trained else self.backup.tuned(model, self.fine_tune)

    def train(self, model: Any) -> Any:
        """Returns the model after another training."""
        amount = self.perturbation.distortion
        if amount:
            graph = perturb.distort(graph_keras.read(model), amount, self.random)
            model = graph_keras.write(graph, self.kind)
        return self.backup.tuned(model, self.fine_tune)

    def metric(self, model: Any) -> float | None:
        """Returns the metric on validation data, None if nothing measures it."""
        judge = self.fine_tune
        return judge.metric(model) if isinstance(judge, training.Training) else None

    def channels(self, model: Any) -> channels_lib.Channels:
        """Returns what can be removed."""
        graph = graph_keras.read(model)
        if self.budget is None:
            return channels_lib.analyze(graph)
        return budget_lib.analyze(graph, self.budget)

    def cut(self, model: Any, choose: activity_lib.Choice) -> Cut:
        """Counts activations and removes what is not chosen; merges if asked to."""
        channels = self.channels(model)
        activity = activity_lib.count_channels(channels, self.kind, self.data)
        keep = choose(channels, activity)
        gone = [activity.rates[name][~kept] for name, kept in keep.items()]
        removed = np.concatenate([np.empty(0), *gone])
        result = Cut(
            model,
            removed=len(removed),
            merged=0,
            rate=float(removed.max(initial=0.0)),
            left_alone={**channels.left_alone, **activity.uncounted},
        )
        if self.budget is not None:
            result.left_alone |= cutting.whole_groups(keep, self.budget)
        if len(removed):
            result.model, report = cutting.cut_and_prove(
                channels, keep, self.kind, batches=self.data, original=model
            )
            result.error = report.error
            if self.reconstruct:
                result.model, _ = reconstruct_kernels(
                    model, result.model, keep, self.data[:_FIT_BATCHES]
                )
                result.model = balance_units(result.model)
        if self.merge is not None:
            result.model, merging = merge_units(
                result.model, self.data, linear=self.merge
            )
            result.merged = sum(old - new for old, new in merging.merged.values())
            result.error = max(result.error, merging.error)
        return result

    def units(self, model: Any) -> int:
        """Returns how many units are left that are counted."""
        layers = graph_keras.read(model).layers
        configs = [layers[name].config for name in self.makers]
        return sum(config.get("units", config.get("filters")) for config in configs)

    def spare(self, model: Any) -> int:
        """Returns how many could go if each group keeps one."""
        groups = activity_lib.countable(self.channels(model))
        return sum(map(len, groups)) - len(groups)

    def cycle(self, number: int, cut: Cut, model: Any) -> Cycle:
        """Returns the record of a cycle that ended in `model`."""
        left = count.count(graph_keras.read(model))
        return Cycle(
            number=number,
            removed=cut.removed,
            merged=cut.merged,
            units=self.units(model),
            rate=cut.rate,
            params=left.params,
            macs=left.macs,
            metric=self.metric(model),
            error=cut.error,
            left_alone=cut.left_alone,
        )
