"""Activation-count pruning: units that hardly ever fire go, cycle by cycle."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from tfslim import errors, registry, tasks
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.methods import activity as activity_lib
from tfslim.methods import channels as cutting
from tfslim.methods import evidence, fitting, perturb
from tfslim.methods.activity import Activity
from tfslim.methods.merge import LINEAR_FORMS, balance_units, merge_units
from tfslim.methods.reconstruct import reconstruct_kernels
from tfslim.methods.rounds import Rounds
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import scores as scores_lib

# Cycles in which a target is reached if nothing is said.
_CYCLES = 5
# The share of units that "auto" tries to do without first.
_FIRST_SHARE = 0.5
# Batches that kernels are re-fitted on.
_FIT_BATCHES = 8

# What stays of a model, by its channels and how active they are.
_Choice: TypeAlias = Callable[
    [channels_lib.Channels, Activity], Mapping[str, channels_lib.Mask]
]


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


def activation_pruning(
    model: Any,
    data: Any,
    fine_tune: fitting.Training | Callable[[Any], Any],
    *,
    threshold: int | float | str = 0,
    pruning_ratio: float | None = None,
    budget: budget_lib.Budget | None = None,
    variant: str | perturb.Perturbation = "vanilla",
    cycles: int | None = None,
    max_drop: float = 0.0,
    merge: str | None = None,
    reconstruct: bool = False,
    is_trained: bool = False,
) -> tuple[Any, tuple[Cycle, ...]]:
    """Trains, counts how often units are active, removes the idle ones, and again.

    A unit is one of a Dense layer or a channel of a convolution, plain or transposed,
    that is followed by a rectifier; see `count_activations`.

    Source: Hu et al., "Network Trimming", 2016, https://arxiv.org/abs/1607.03250; the
    variants: Çallı, "Optimizing Neural Networks for Mobile Devices", Radboud
    University, 2017, section 2.2.2.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3; not changed.
        data: where activations are counted: arrays (x, y) or x alone, or batches.
        fine_tune: how to train: a `Training`, or a function that trains a model in
            place or returns the trained one.
        threshold: units that are active at most so often are removed, until none is:
            an int counts values above zero, a float in [0, 1) is their share. `auto`
            removes idle units, then tries to do without the half of the rest that
            contributes least (see `activity.contributions`), undoes what costs more
            than `max_drop`, tries half as many, and so on down to one.
        pruning_ratio: in place of a threshold, the share of all units to remove, those
            that are active least, whatever their layer.
        budget: in place of a threshold, a target in other terms; `scope="global"`
            compares the units of all layers.
        variant: `vanilla`, `distorted` (weights move at random before each training),
            `regularized` (that, and an L1 penalty), or a `Perturbation`.
        cycles: the number of cycles to a target (5), or the most that a threshold may
            take (None: until nothing falls).
        max_drop: of `auto`: how much worse the validation metric may become than after
            the first training.
        merge: also merge units that say the same: collinear ones, and linear ones in
            the form `pair` or `shift`, or not (`keep`); see `merge_units`. None: not.
        reconstruct: re-fit the kernels that lost inputs to what they gave before, see
            `reconstruct_kernels`.
        is_trained: whether the first training can be left out.

    Returns:
        The model after the last cycle that is kept, not compiled, and all cycles.

    Raises:
        ConfigError: options that do not fit together.
        VerificationError: a cut differs from the masked original.
    """
    if pruning_ratio is not None and budget is None:
        budget = budget_lib.Budget(pruning_ratio=pruning_ratio, scope="global")
    elif pruning_ratio is not None:
        raise errors.ConfigError("Pass pruning_ratio or a Budget, not both.")
    _check(threshold, budget, cycles, merge)
    original = graph_keras.read(model)
    units = activity_lib.countable(channels_lib.analyze(original))
    if not units:
        raise errors.ConfigError(
            f"Model '{original.name}' has no units to count: none that can be removed "
            "is followed by a rectifier such as ReLU."
        )
    job = _Job(
        kind=graph_keras.keras_of(model),
        # Walked over once a cycle.
        data=[evidence.inputs_of(batch) for batch in fitting.batches(data)],
        fine_tune=fine_tune,
        perturbation=_perturbation(variant),
        merge=merge,
        reconstruct=reconstruct,
        budget=budget,
        makers=frozenset(group.makers[0] for group in units),
    )
    cycles_to_target = cycles or _CYCLES
    rounds = None
    if budget is not None:
        # Before the first training: a target may be out of reach.
        rounds = Rounds(job.channels(model), budget, cycles_to_target, "cubic")
    model = job.start(original, is_trained=is_trained)
    if rounds is not None:
        model, history = _to_target(job, model, rounds, cycles_to_target)
    elif threshold == "auto":
        model, history = _to_limit(job, model, max_drop, cycles)
    else:
        model, history = _until_none_falls(job, model, threshold, cycles)
    if job.perturbation.l1:
        plain = perturb.with_regularizers_of(graph_keras.read(model), original)
        model = graph_keras.write(plain, job.kind)
    return model, tuple(history)


def _check(
    threshold: int | float | str,
    budget: budget_lib.Budget | None,
    cycles: int | None,
    merge: str | None,
) -> None:
    is_count = isinstance(threshold, int) and not isinstance(threshold, bool)
    is_right = (
        threshold == "auto"
        or (is_count and threshold >= 0)  # type: ignore[operator]
        or (isinstance(threshold, float) and 0.0 <= threshold < 1.0)
    )
    if not is_right:
        raise errors.ConfigError(
            "threshold must be a count (an int, 0 or more), a share (a float in "
            f"[0, 1)) or 'auto', got {threshold!r}."
        )
    if budget is not None and threshold != 0:
        raise errors.ConfigError(
            "Pass a threshold or a target (pruning_ratio, budget), not both."
        )
    if cycles is not None and cycles < 1:
        raise errors.ConfigError(f"cycles must be at least 1, got {cycles}.")
    if merge is not None and merge not in LINEAR_FORMS:
        raise registry.unknown_name("form of linear units", merge, LINEAR_FORMS)


def _perturbation(variant: str | perturb.Perturbation) -> perturb.Perturbation:
    if isinstance(variant, perturb.Perturbation):
        return variant
    if variant not in perturb.VARIANTS:
        raise registry.unknown_name("variant", variant, perturb.VARIANTS)
    return perturb.VARIANTS[variant]


@dataclasses.dataclass
class _Cut:
    """A model with fewer units, before training."""

    model: Any
    removed: int
    merged: int
    rate: float
    left_alone: Mapping[str, str]
    error: float = 0.0

    @property
    def is_smaller(self) -> bool:
        return bool(self.removed or self.merged)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """What stays the same in all cycles."""

    kind: graph_keras.KerasName
    data: list[Any]
    fine_tune: fitting.Training | Callable[[Any], Any]
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
        return model if is_trained else fitting.tuned(model, self.fine_tune)

    def train(self, model: Any) -> Any:
        """Returns the model after another training."""
        amount = self.perturbation.distortion
        if amount:
            graph = perturb.distort(graph_keras.read(model), amount, self.random)
            model = graph_keras.write(graph, self.kind)
        return fitting.tuned(model, self.fine_tune)

    def metric(self, model: Any) -> float | None:
        """Returns the metric on validation data, None if nothing measures it."""
        judge = self.fine_tune
        return judge.metric(model) if isinstance(judge, fitting.Training) else None

    def channels(self, model: Any) -> channels_lib.Channels:
        """Returns what can be removed."""
        graph = graph_keras.read(model)
        if self.budget is None:
            return channels_lib.analyze(graph)
        return channels_lib.analyze(
            graph,
            ignore=self.budget.ignore,
            cut_layer_norms=self.budget.cut_layer_norms,
        )

    def cut(self, model: Any, choose: _Choice) -> _Cut:
        """Counts activations and removes what is not chosen; merges if asked to."""
        channels = self.channels(model)
        activity = activity_lib.count_channels(channels, self.kind, self.data)
        keep = choose(channels, activity)
        gone = [activity.rates[name][~kept] for name, kept in keep.items()]
        removed = np.concatenate([np.empty(0), *gone])
        result = _Cut(
            model,
            removed=len(removed),
            merged=0,
            rate=float(removed.max(initial=0.0)),
            left_alone={**channels.left_alone, **activity.uncounted},
        )
        if len(removed):
            result.model, report = cutting.cut_and_prove(
                channels, keep, self.kind, batches=self.data
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

    def cycle(self, number: int, cut: _Cut, model: Any) -> Cycle:
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


def _above(threshold: int | float) -> _Choice:
    """Keeps the units above a threshold, and of each group the most active one."""

    def choose(
        channels: channels_lib.Channels, activity: Activity
    ) -> dict[str, channels_lib.Mask]:
        values = activity.counts if isinstance(threshold, int) else activity.rates
        keep = {name: value > threshold for name, value in values.items()}
        for name, kept in keep.items():
            kept[np.argmax(activity.rates[name])] = True
        return keep

    return choose


def _without(number: int) -> _Choice:
    """Keeps all but a number of units, those that contribute least."""

    def choose(
        channels: channels_lib.Channels, activity: Activity
    ) -> dict[str, channels_lib.Mask]:
        shares = activity_lib.contributions(channels, activity)
        keep = {name: np.ones(len(values), bool) for name, values in shares.items()}
        ranked = sorted(
            (share, name, place)
            for name, values in shares.items()
            for place, share in enumerate(values)
            if place != np.argmax(values)
        )
        for _, name, place in ranked[:number]:
            keep[name][place] = False
        return keep

    return choose


def _until_none_falls(
    job: _Job, model: Any, threshold: Any, cycles: int | None
) -> tuple[Any, list[Cycle]]:
    history: list[Cycle] = []
    for number in itertools.count(1):
        cut = job.cut(model, _above(threshold))
        if cut.is_smaller:
            model = job.train(cut.model)
        history.append(job.cycle(number, cut, model))
        if not cut.is_smaller or number == cycles:
            return model, history
    raise AssertionError  # pragma: no cover


def _to_target(
    job: _Job, model: Any, rounds: Rounds, cycles: int
) -> tuple[Any, list[Cycle]]:
    history = []
    for step in range(cycles):

        def choose(
            channels: channels_lib.Channels, activity: Activity, step: int = step
        ) -> dict[str, channels_lib.Mask]:
            plan = rounds.budget(step, channels, activity.rates)
            scores = scores_lib.Scores(activity.rates, activity.uncounted)
            return budget_lib.plan(channels, scores, plan)

        cut = job.cut(model, choose)
        model = job.train(cut.model)
        history.append(job.cycle(step + 1, cut, model))
    return model, history


def _to_limit(
    job: _Job, model: Any, max_drop: float, cycles: int | None
) -> tuple[Any, list[Cycle]]:
    judge = job.fine_tune
    baseline = job.metric(model)
    if baseline is None or not isinstance(judge, fitting.Training):
        raise errors.ConfigError(
            "threshold='auto' needs a metric: pass a Training with validation data."
        )
    higher = tasks.resolve(judge.task, model).higher_is_better
    history: list[Cycle] = []

    def attempt(model: Any, cut: _Cut, *, train: bool) -> Any:
        """Returns the smaller model if it is good enough, else the one it was."""
        smaller = job.train(cut.model) if train else cut.model
        cycle = job.cycle(len(history) + 1, cut, smaller)
        metric = np.nan if cycle.metric is None else cycle.metric
        is_kept = fitting.drop(metric, baseline, higher_is_better=higher) <= max_drop
        history.append(dataclasses.replace(cycle, is_kept=is_kept))
        return smaller if is_kept else model

    wanted = job.units(model)
    while cycles is None or len(history) < cycles:
        # What never fires, or says the same as another, goes without training.
        free = job.cut(model, _above(0))
        if free.is_smaller:
            model = attempt(model, free, train=False)
        wanted = min(wanted, int(job.units(model) * _FIRST_SHARE), job.spare(model))
        if wanted == 0:
            break
        model = attempt(model, job.cut(model, _without(wanted)), train=True)
        if not history[-1].is_kept:
            wanted //= 2
    return model, history
