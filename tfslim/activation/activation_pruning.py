"""Activation-count pruning: units that hardly ever fire go, cycle by cycle."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors, registry, tasks
from tfslim.activation import counts as activity_lib
from tfslim.activation import perturb
from tfslim.activation.counts import Activity
from tfslim.activation.cycles import Cut, Cycle, Job
from tfslim.activation.merge import LINEAR_FORMS
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import criteria, evidence
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.rounds import Rounds
from tfslim.training import training
from tfslim.training.job import Backup, options_of

# Cycles in which a target is reached if nothing is said.
_CYCLES = 5
# The share of units that "auto" tries to do without first.
_FIRST_SHARE = 0.5


def activation_pruning(
    model: Any,
    data: Any,
    fine_tune: training.Training | Callable[[Any], Any],
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
    backup_dir: Path | str | None = None,
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
        pruning_ratio: in place of a threshold, the share of each layer's units to
            remove, those that are active least.
        budget: in place of a threshold, a target in other terms; `scope="global"`
            compares the units of all layers, each by its layer's mean rate.
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
        backup_dir: where finished trainings are kept until the end; the same call after
            a kill goes on from there, a `Training` from its last epoch. None: that of
            the `Training`.

    Returns:
        The model after the last cycle that is kept, not compiled, and all cycles.

    Raises:
        ConfigError: options that do not fit together.
        VerificationError: a cut differs from the masked original.
    """
    budget = _target(pruning_ratio, budget)
    _check(threshold, budget, cycles, merge)
    options = options_of(fine_tune, backup_dir)
    judge = _judge(fine_tune) if threshold == "auto" else None
    original = graph_keras.read(model)
    units = activity_lib.countable(channels_lib.analyze(original))
    if not units:
        raise errors.ConfigError(
            f"Model '{original.name}' has no units to count: none that can be removed "
            "is followed by a rectifier such as ReLU."
        )
    perturbation = perturb.perturbation(variant)
    description = {
        "method": "activation_pruning",
        "threshold": threshold,
        "budget": budget,
        "perturbation": perturbation,
        "cycles": cycles,
        "max_drop": max_drop,
        "merge": merge,
        "reconstruct": reconstruct,
        "is_trained": is_trained,
    }
    job = Job(
        backup=Backup(options, model, description),
        kind=graph_keras.keras_of(model),
        # Walked over once a cycle. In a tuple each, as the inputs may be a tuple, too.
        data=[(evidence.inputs_of(batch),) for batch in training.batches(data)],
        fine_tune=fine_tune,
        perturbation=perturbation,
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
    elif judge is not None:
        model, history = _to_limit(job, judge, model, max_drop, cycles)
    else:
        model, history = _until_none_falls(job, model, threshold, cycles)
    if job.perturbation.l1:
        plain = perturb.with_regularizers_of(graph_keras.read(model), original)
        model = graph_keras.write(plain, job.kind)
    job.backup.finish()
    return model, tuple(history)


def _target(
    pruning_ratio: float | None, budget: budget_lib.Budget | None
) -> budget_lib.Budget | None:
    if pruning_ratio is None:
        return budget
    if budget is not None:
        raise errors.ConfigError("Pass pruning_ratio or a Budget, not both.")
    return budget_lib.Budget(pruning_ratio=pruning_ratio)


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
    if cycles is not None and not (isinstance(cycles, int) and cycles >= 1):
        raise errors.ConfigError(
            f"cycles must be a whole number from 1, got {cycles!r}."
        )
    if merge is not None and merge not in LINEAR_FORMS:
        raise registry.unknown_name("form of linear units", merge, LINEAR_FORMS)


def _until_none_falls(
    job: Job, model: Any, threshold: Any, cycles: int | None
) -> tuple[Any, list[Cycle]]:
    history: list[Cycle] = []
    for number in itertools.count(1):
        cut = job.cut(model, activity_lib.above(threshold))
        if cut.is_smaller:
            model = job.train(cut.model)
        history.append(job.cycle(number, cut, model))
        if not cut.is_smaller or number == cycles:
            return model, history
    raise AssertionError  # pragma: no cover


def _to_target(
    job: Job, model: Any, rounds: Rounds, cycles: int
) -> tuple[Any, list[Cycle]]:
    history = []
    for step in range(cycles):

        def choose(
            channels: channels_lib.Channels, activity: Activity, step: int = step
        ) -> dict[str, channels_lib.Mask]:
            plan = rounds.budget(step, channels, activity.rates)
            # Deep layers are active less often, so rates compare within a layer only.
            even = criteria.NORMALIZATIONS.get("mean")
            rates = {name: even(values) for name, values in activity.rates.items()}
            scores = scores_lib.Scores(rates, activity.uncounted)
            return budget_lib.plan(channels, scores, plan)

        cut = job.cut(model, choose)
        if cut.is_smaller:
            model = job.train(cut.model)
        history.append(job.cycle(step + 1, cut, model))
    return model, history


def _judge(fine_tune: training.Training | Callable[[Any], Any]) -> training.Training:
    if not isinstance(fine_tune, training.Training) or fine_tune.validation is None:
        raise errors.ConfigError(
            "threshold='auto' needs a metric: pass a Training with validation data."
        )
    return fine_tune


def _to_limit(
    job: Job, judge: training.Training, model: Any, max_drop: float, cycles: int | None
) -> tuple[Any, list[Cycle]]:
    baseline = judge.metric(model) or 0.0  # With validation data it is never None.
    higher = tasks.resolve(judge.task, model).higher_is_better
    history: list[Cycle] = []

    def attempt(model: Any, cut: Cut, *, train: bool) -> Any:
        """Returns the smaller model if it is good enough, else the one it was."""
        smaller = job.train(cut.model) if train else cut.model
        cycle = job.cycle(len(history) + 1, cut, smaller)
        metric = np.nan if cycle.metric is None else cycle.metric
        is_kept = training.drop(metric, baseline, higher_is_better=higher) <= max_drop
        history.append(dataclasses.replace(cycle, is_kept=is_kept))
        return smaller if is_kept else model

    wanted = job.units(model)
    while cycles is None or len(history) < cycles:
        # What never fires, or says the same as another, goes without training.
        free = job.cut(model, activity_lib.above(0))
        if free.is_smaller:
            model = attempt(model, free, train=False)
        wanted = min(wanted, int(job.units(model) * _FIRST_SHARE), job.spare(model))
        if wanted == 0:
            break
        cut = job.cut(model, activity_lib.without(wanted))
        model = attempt(model, cut, train=True)
        if not history[-1].is_kept:
            wanted //= 2
    return model, history
