"""Pruning and training in turn, until a target or a limit of accuracy is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfslim import fields, tasks
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import constants, criteria, loop
from tfslim.pruning import prune as cutting
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.step_budgets import StepBudgets
from tfslim.training import seeds, training, with_overrides
from tfslim.training.job import ResumableJob, options_of

# What rounding up single channels may leave of a ratio, in small networks.
_ROUNDING = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningStep(loop.Step):
    """One step of pruning and training.

    Attributes:
        pruning_ratio: share of the original channels that are gone, in all.
        cost: what the budget limits, as it is now; None for a ratio.
    """

    pruning_ratio: float
    cost: float | None

    def lines(self) -> Iterator[str]:
        """Yields the step in one line."""
        for line in super().lines():
            yield f"{line}, {self.pruning_ratio:.1%} of the channels removed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class IterativeOptions(fields.Checked):
    """How a target is reached in steps.

    Attributes:
        steps: number of steps.
        curve: how the target is split: `geometric`, `cubic` or `linear`, see
            `budget.schedule`; of a limit, it is the share to save that is split.
        criterion: as for `prune_channels`.
        data: as for `prune_channels`.
        loss: as for `prune_channels`.
        fold: as for `prune_channels`.
    """

    steps: int = fields.field(5, least=1)
    curve: str = fields.field("geometric", choices=budget_lib.CURVES)
    criterion: str | criteria.Criterion | scores_lib.Scoring = "l1_norm"
    data: Any = None
    loss: Any = None
    fold: str = fields.field("exact", choices=constants.FOLDS)


@seeds.kept()
def prune_iteratively(
    model: Any,
    fine_tune: Callable[[Any], Any] | training.Training,
    *,
    pruning_ratio: float | None = None,
    budget: budget_lib.Budget | None = None,
    evaluate: Callable[[Any], float] | None = None,
    higher_is_better: bool = True,
    max_drop: float | None = None,
    backup_dir: Path | str | None = None,
    options: IterativeOptions | None = None,
    **overrides: Any,
) -> tuple[Any, loop.LoopReport]:
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
        evaluate: returns the metric of a model; None: that of `Training`.
        higher_is_better: of `evaluate`; a `Training` knows it from its task.
        max_drop: how much worse than before the metric may be; the step that loses
            more is undone and ends the loop. None: no limit.
        backup_dir: where finished trainings, and what was measured and decided, are
            kept until the end; the same call resumes there after a kill, a `Training`
            from its last epoch. None: that of the `Training`.
        options: how the target is reached; None takes the defaults.
        **overrides: fields of `IterativeOptions` that replace those of `options`, such
            as `steps` and `criterion`.

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
    judge = evaluate or _unmeasured
    if isinstance(fine_tune, training.Training) and evaluate is None:
        judge = fine_tune.metric
        higher_is_better = tasks.resolve(fine_tune.task, model).higher_is_better
    target = cutting.budget_of(pruning_ratio, budget)
    how = with_overrides(options, overrides, kind=IterativeOptions)
    channels = budget_lib.analyze(graph_keras.read(model), target)
    description = {"budget": target, "max_drop": max_drop, **vars(how)}
    for name in ("data", "loss"):  # Of the criterion; data may be read only once.
        description.pop(name)
    description["method"] = "prune_iteratively"
    job = ResumableJob(
        options_of(fine_tune, backup_dir), model, description=description
    )
    method = _Iterative(
        target=target,
        how=how,
        job=job,
        fine_tune=fine_tune,
        judge=judge,
        kind=graph_keras.keras_of(model),
        budgets=StepBudgets(channels, target, steps=how.steps, curve=how.curve),
        data=None if how.data is None else [*training.batches(how.data)],
    )
    before = job.value(lambda: judge(model))
    limit = loop.Limit(before, max_drop, higher_is_better)
    smaller, steps = loop.run(method, model, limit=limit)
    job.finish()
    report = loop.LoopReport(
        steps=steps,
        before=count.count(channels.graph),
        after=count.count(graph_keras.read(smaller)),
        metric_before=before,
        stopped=_stopped(target, steps[-1], limit=limit),
    )
    return smaller, report


def _unmeasured(model: Any) -> float | None:
    return None


def _stopped(target: budget_lib.Budget, step: PruningStep, *, limit: loop.Limit) -> str:
    """Says why there was no step after the last; a limit is met, or refused before."""
    if not step.is_kept:
        return (
            f"step {step.number} made the metric {limit.lost(step):.4g} worse, more "
            f"than max_drop={limit.max_drop:g}; it is undone"
        )
    wanted = target.pruning_ratio or 0.0
    if target.ratios:
        return "the steps are over, each group as near to its ratio as its divisor is"
    if step.pruning_ratio > wanted - min(_ROUNDING, wanted / 2):
        return "the target is reached"
    return (
        f"the steps are over with {step.pruning_ratio:.1%} of the channels removed, "
        f"not {wanted:.1%}: widths are rounded up to multiples of divisor="
        f"{target.divisor}, and min_channels={target.min_channels} and ignored layers "
        "stay"
    )


@dataclasses.dataclass(kw_only=True)
class _Iterative(loop.Method):
    """Cuts by a criterion to the next part of the target."""

    step_type = PruningStep

    target: budget_lib.Budget
    how: IterativeOptions
    job: ResumableJob
    fine_tune: Callable[[Any], Any]
    judge: Callable[[Any], float | None]
    kind: graph_keras.KerasName
    budgets: StepBudgets
    data: list[Any] | None

    def _channels(self, model: Any) -> channels_lib.Channels:
        return budget_lib.analyze(graph_keras.read(model), self.target)

    def cut(self, model: Any, steps: Sequence[Any]) -> loop.Cut | None:
        """Ends after the number of steps, or with one that lost too much."""
        if len(steps) == self.how.steps or not all(step.is_kept for step in steps):
            return None
        channels = self._channels(model)
        # Kept, as measured costs would not give the same plan a second time.
        keep = self.job.value(lambda: self._plan(channels, len(steps)))
        smaller, report = cutting.cut_and_prove(
            channels,
            keep,
            kind=self.kind,
            batches=self.data or (),
            fold=self.how.fold,
            original=model,
        )
        figures = {"error": report.error, "skipped": channels.skipped}
        is_smaller = not all(kept.all() for kept in keep.values())
        return loop.Cut(model=smaller, figures=figures, trains=is_smaller)

    def _plan(
        self, channels: channels_lib.Channels, step: int
    ) -> dict[str, channels_lib.Mask]:
        how = self.how
        scores = cutting.score_by(
            channels,
            self.kind,
            criterion=how.criterion,
            batches=self.data,
            loss=how.loss,
        )
        budget = self.budgets.budget(step, channels, scores.groups)
        return budget_lib.plan(channels, scores, budget=budget)

    def measure(self, model: Any) -> Mapping[str, Any]:
        """Returns the metric, and what the budget limits."""
        left = self._channels(model)
        has_limit = budget_lib.limit_of(self.target) is not None

        def figures() -> tuple[float | None, float | None]:
            cost = budget_lib.cost_of(left.graph, self.target) if has_limit else None
            return self.judge(model), cost

        metric, cost = self.job.value(figures)
        ratio = self.budgets.removed(left)
        return {"metric": metric, "cost": cost, "pruning_ratio": ratio}
