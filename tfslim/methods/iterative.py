"""Pruning and training in turn, until a target or a limit of accuracy is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfslim import errors, registry, tasks
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.methods import backup as backup_lib
from tfslim.methods import channels as cutting
from tfslim.methods import fitting
from tfslim.methods.rounds import Rounds
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import constants, criteria
from tfslim.pruning import scores as scores_lib


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
    fine_tune: Callable[[Any], Any] | fitting.Training,
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
        backup_dir: where finished rounds are kept until the end; the same call after a
            kill goes on with the round that was not finished.
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
    if isinstance(fine_tune, fitting.Training) and evaluate is None:
        judge = fine_tune.metric
        higher_is_better = tasks.resolve(fine_tune.task, model).higher_is_better
    target = cutting.budget_of(pruning_ratio, budget)
    loop = _loop(target, graph_keras.keras_of(model), options)
    backup = None
    if backup_dir is not None:
        job = {**loop.description, "steps": steps, "curve": curve, "max_drop": max_drop}
        backup = backup_lib.Backup(backup_dir, model, job)
        if isinstance(fine_tune, fitting.Training):
            fine_tune = fine_tune.with_backup(backup.training)
    rounds = Rounds(loop.channels(model), target, steps, curve)
    report = _start(model, judge, backup, max_drop)
    if backup is not None:
        model = backup.load() or model
    while not report.stopped:
        smaller, row = loop.run(model, rounds, len(report.rounds), fine_tune, judge)
        report = _judged(report, row, steps, max_drop, higher_is_better)
        model = smaller if report.rounds[-1].is_kept else model
        if backup is not None:
            backup.save(model, dataclasses.asdict(report))
    if backup is not None:
        backup.clear()
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
        options = {**options, "data": list(options["data"])}
    return _Loop(target=target, kind=kind, **options)


def _start(
    model: Any,
    judge: Callable[[Any], float | None],
    backup: backup_lib.Backup | None,
    max_drop: float | None,
) -> IterativeReport:
    """Returns the report so far: of the rounds before a kill, or of none."""
    if backup is not None and backup.state is not None:
        rounds = tuple(Round(**row) for row in backup.state["rounds"])
        return IterativeReport(**{**backup.state, "rounds": rounds})
    metric = judge(model)
    if max_drop is not None and metric is None:
        raise errors.ConfigError(
            "max_drop needs a metric: pass evaluate, a function of a model, or a "
            "Training with validation data."
        )
    before = count.count(graph_keras.read(model))
    return IterativeReport((), metric, before.params, before.macs, "")


def _judged(
    report: IterativeReport,
    row: Round,
    steps: int,
    max_drop: float | None,
    higher_is_better: bool,
) -> IterativeReport:
    """Adds a round, and decides whether it is kept and whether it was the last."""
    stopped = "the target is reached" if row.number == steps else ""
    if max_drop is not None and row.metric is not None:
        lost = fitting.drop(
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

    @property
    def description(self) -> dict[str, Any]:
        """The job as plain data, to recognize it after a kill."""
        fields = {
            field.name: getattr(self.target, field.name)
            for field in dataclasses.fields(self.target)
            if field.name != "cost"
        }
        criterion = self.criterion
        if not isinstance(criterion, str):
            criterion = getattr(criterion, "__name__", type(criterion).__name__)
        return {
            **fields,
            "ratios": dict(self.target.ratios),
            "ignore": list(self.target.ignore),
            "criterion": criterion,
            "fold": self.fold,
        }

    def channels(self, model: Any) -> channels_lib.Channels:
        return channels_lib.analyze(
            graph_keras.read(model),
            ignore=self.target.ignore,
            cut_layer_norms=self.target.cut_layer_norms,
        )

    def run(
        self,
        model: Any,
        rounds: Rounds,
        step: int,
        fine_tune: Callable[[Any], Any],
        judge: Callable[[Any], float | None],
    ) -> tuple[Any, Round]:
        """Cuts, trains and measures once."""
        channels = self.channels(model)
        scores = cutting.score_by(
            channels, self.kind, self.criterion, self.data, self.loss
        )
        limit = budget_lib.limit_of(self.target)
        keep = budget_lib.plan(
            channels, scores, rounds.budget(step, channels, scores.groups)
        )
        smaller, cut = cutting.cut_and_prove(
            channels, keep, self.kind, batches=self.data or (), fold=self.fold
        )
        if not all(kept.all() for kept in keep.values()):
            smaller = fitting.tuned(smaller, fine_tune)
        left = self.channels(smaller)
        return smaller, Round(
            number=step + 1,
            pruning_ratio=rounds.removed(left),
            params=cut.cut.after.params,
            macs=cut.cut.after.macs,
            cost=None if limit is None else budget_lib.cost_of(left.graph, self.target),
            metric=judge(smaller),
            error=cut.error,
            is_kept=True,
        )
