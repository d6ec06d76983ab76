"""Pruning and training in turn, until a target or a limit of accuracy is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfslim import errors, registry, tasks
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import constants, criteria
from tfslim.pruning import prune as cutting
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.rounds import Rounds
from tfslim.training import training
from tfslim.training.job import Backup, options_of

# What rounding up single channels may leave of a ratio, in small networks.
_ROUNDING = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """One round of pruning and training.

    Attributes:
        number: from 1.
        pruning_ratio: share of the original channels that are gone, in all.
        params: weights that are left.
        macs: multiply-accumulates (1 MAC = 2 FLOPs) at batch 1 that are left.
        cost: what the budget limits, as it is now; None for a ratio.
        metric: after training; None if nothing measures it.
        error: how far the cut is proved, see `PruneReport`.
        is_kept: false for the round that lost too much.
    """

    number: int
    pruning_ratio: float
    params: int
    macs: int
    cost: float | None
    metric: float | None
    error: float
    is_kept: bool


@dataclasses.dataclass(frozen=True)
class IterativeReport:
    """What iterative pruning did.

    Attributes:
        rounds: in order; the last one may not be kept.
        metric_before: of the model that was passed in; None if nothing measures it.
        params_before: its weights.
        macs_before: its multiply-accumulates.
        stopped: why there was no further round, in one line.
    """

    rounds: tuple[Round, ...]
    metric_before: float | None
    params_before: int
    macs_before: int
    stopped: str

    def __str__(self) -> str:
        """A table with one line a round, and why it ended."""
        lines = [f"{'round':>5}  {'removed':>7}  {'params':>12}  {'MACs':>14}  metric"]
        lines.append(
            f"{0:>5}  {0:>7.1%}  {self.params_before:>12,}  {self.macs_before:>14,}  "
            f"{_number(self.metric_before)}"
        )
        lines += [
            f"{r.number:>5}  {r.pruning_ratio:>7.1%}  {r.params:>12,}  {r.macs:>14,}  "
            f"{_number(r.metric)}{'' if r.is_kept else '  (not kept)'}"
            for r in self.rounds
        ]
        return "\n".join([*lines, f"stopped: {self.stopped}"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def prune_iteratively(
    model: Any,
    fine_tune: Callable[[Any], Any] | training.Training,
    *,
    pruning_ratio: float | None = None,
    budget: budget_lib.Budget | None = None,
    steps: int = 5,
    curve: str = "geometric",
    evaluate: Callable[[Any], float] | None = None,
    higher_is_better: bool = True,
    max_drop: float | None = None,
    backup_dir: Path | str | None = None,
    **options: Any,
) -> tuple[Any, IterativeReport]:
    """Prunes a little, trains, and again, until the target is reached.

    Source: Zhu and Gupta, "To prune, or not to prune", 2017,
    https://arxiv.org/abs/1710.01878 (the cubic schedule); the alternation itself: Han
    et al., NIPS 2015, https://arxiv.org/abs/1506.02626.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3; not changed.
        fine_tune: how to train a cut model: a `Training`, or a function that trains it
            in place or returns the trained model.
        pruning_ratio: share of the original channels to remove in all, in [0, 1).
        budget: the target in other terms: `Budget(max_macs=...)`, or a measured
            latency, `Budget(max_cost=..., cost=...)`.
        steps: number of rounds.
        curve: how the target is split: `geometric`, `cubic` or `linear`, see
            `budget.schedule`; of a limit, it is the share to save that is split.
        evaluate: returns the metric of a model; None: that of `Training`.
        higher_is_better: of `evaluate`; a `Training` knows it from its task.
        max_drop: how much worse than before the metric may be; the round that loses
            more is undone and ends the loop. None: no limit.
        backup_dir: where finished trainings, and what was measured and decided, are
            kept until the end; the same call after a kill goes on from there, a
            `Training` from its last epoch. None: that of the `Training`.
        **options: `criterion`, `data`, `loss` and `fold` of `prune_channels`.

    Returns:
        The last model that was good enough, trained, and the report.

    Raises:
        ConfigError: options that do not fit together, or a target out of reach.

    Example:
        training = tfslim.Training(train=(x, y), validation=(x_val, y_val))
        smaller, report = tfslim.prune_iteratively(
            model, training, budget=tfslim.Budget(max_macs=50e6), max_drop=0.01
        )
    """
    judge = evaluate or _no_metric
    if isinstance(fine_tune, training.Training) and evaluate is None:
        judge = fine_tune.metric
        higher_is_better = tasks.resolve(fine_tune.task, model).higher_is_better
    target = cutting.budget_of(pruning_ratio, budget)
    loop = _loop(target, graph_keras.keras_of(model), options)
    job = {
        "method": "prune_iteratively",
        "budget": target,
        "criterion": loop.criterion,
        "fold": loop.fold,
        "steps": steps,
        "curve": curve,
        "max_drop": max_drop,
    }
    backup = Backup(options_of(fine_tune, backup_dir), model, job)
    rounds = Rounds(loop.channels(model), target, steps, curve)
    report = _start(model, backup.value(lambda: judge(model)), max_drop)
    while not report.stopped:
        step = len(report.rounds)
        smaller, row = loop.run(model, rounds, step, fine_tune, judge, backup)
        end = _reached(target, row) if row.number == steps else ""
        report = _judged(report, row, end, max_drop, higher_is_better)
        model = smaller if report.rounds[-1].is_kept else model
    backup.finish()
    return model, report


def _no_metric(model: Any) -> float | None:
    return None


def _loop(
    target: budget_lib.Budget, kind: graph_keras.KerasName, options: dict[str, Any]
) -> _Loop:
    known = ["criterion", "data", "fold", "loss"]
    for name in options:
        if name not in known:
            raise registry.unknown_name("pruning option", name, known)
    constants.check_mode(options.get("fold", "exact"))
    if options.get("data") is not None:
        options = {**options, "data": list(training.batches(options["data"]))}
    return _Loop(target=target, kind=kind, **options)


def _start(model: Any, metric: float | None, max_drop: float | None) -> IterativeReport:
    """Returns the report before the first round."""
    if max_drop is not None and metric is None:
        raise errors.ConfigError(
            "max_drop needs a metric: pass evaluate, a function of a model, or a "
            "Training with validation data."
        )
    before = count.count(graph_keras.read(model))
    return IterativeReport((), metric, before.params, before.macs, "")


def _reached(target: budget_lib.Budget, row: Round) -> str:
    """Says how the last round left the target; a limit is met, or refused before."""
    wanted = target.pruning_ratio or 0.0
    if target.ratios:
        return "the rounds are over, each group as near to its ratio as its divisor is"
    if row.pruning_ratio > wanted - min(_ROUNDING, wanted / 2):
        return "the target is reached"
    return (
        f"the rounds are over with {row.pruning_ratio:.1%} of the channels removed, "
        f"not {wanted:.1%}: widths are rounded up to multiples of divisor="
        f"{target.divisor}, and min_channels={target.min_channels} and ignored layers "
        "stay"
    )


def _judged(
    report: IterativeReport,
    row: Round,
    stopped: str,
    max_drop: float | None,
    higher_is_better: bool,
) -> IterativeReport:
    """Adds a round, and decides whether it is kept and whether it was the last."""
    if max_drop is not None and row.metric is not None:
        lost = training.drop(
            row.metric, report.metric_before or 0.0, higher_is_better=higher_is_better
        )
        if lost > max_drop:
            row = dataclasses.replace(row, is_kept=False)
            stopped = (
                f"round {row.number} made the metric {lost:.4g} worse, more than "
                f"max_drop={max_drop:g}; it is undone"
            )
    return dataclasses.replace(report, rounds=(*report.rounds, row), stopped=stopped)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loop:
    """What stays the same in all rounds."""

    target: budget_lib.Budget
    kind: graph_keras.KerasName
    criterion: str | criteria.Criterion | scores_lib.Scoring = "l1_norm"
    data: list[Any] | None = None
    loss: Any = None
    fold: str = "exact"

    def channels(self, model: Any) -> channels_lib.Channels:
        return budget_lib.analyze(graph_keras.read(model), self.target)

    def plan(
        self, channels: channels_lib.Channels, rounds: Rounds, step: int
    ) -> dict[str, channels_lib.Mask]:
        scores = cutting.score_by(
            channels, self.kind, self.criterion, self.data, self.loss
        )
        budget = rounds.budget(step, channels, scores.groups)
        return budget_lib.plan(channels, scores, budget)

    def cost(self, channels: channels_lib.Channels) -> float | None:
        if budget_lib.limit_of(self.target) is None:
            return None
        return budget_lib.cost_of(channels.graph, self.target)

    def run(
        self,
        model: Any,
        rounds: Rounds,
        step: int,
        fine_tune: Callable[[Any], Any],
        judge: Callable[[Any], float | None],
        backup: Backup,
    ) -> tuple[Any, Round]:
        """Cuts, trains and measures once."""
        channels = self.channels(model)
        # Kept, as measured costs would not give the same plan a second time.
        keep = backup.value(lambda: self.plan(channels, rounds, step))
        smaller, cut = cutting.cut_and_prove(
            channels,
            keep,
            self.kind,
            batches=self.data or (),
            fold=self.fold,
            original=model,
        )
        if not all(kept.all() for kept in keep.values()):
            smaller = backup.tuned(smaller, fine_tune)
        left = self.channels(smaller)
        metric, cost = backup.value(lambda: (judge(smaller), self.cost(left)))
        return smaller, Round(
            number=step + 1,
            pruning_ratio=rounds.removed(left),
            params=cut.cut.after.params,
            macs=cut.cut.after.macs,
            cost=cost,
            metric=metric,
            error=cut.error,
            is_kept=True,
        )
