"""Pruning and training in turn, until a target or a limit of accuracy is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfslim import errors, fields, tasks
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import constants, criteria, loop
from tfslim.pruning import prune as cutting
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.step_budgets import StepBudgets
from tfslim.training import training, with_overrides
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
    judge = evaluate or _no_metric
    if isinstance(fine_tune, training.Training) and evaluate is None:
        judge = fine_tune.metric
        higher_is_better = tasks.resolve(fine_tune.task, model).higher_is_better
    target = cutting.budget_of(pruning_ratio, budget)
    how = with_overrides(options, overrides, IterativeOptions)
    decisive = {"budget": target, "max_drop": max_drop, **vars(how)}
    # A loss is the criterion's affair; data may be an iterator, which is read once.
    decisive = {k: v for k, v in decisive.items() if k not in ("data", "loss")}
    job = ResumableJob(
        options_of(fine_tune, backup_dir),
        model,
        {"method": "prune_iteratively", **decisive},
    )
    method = _Iterative(model, target, how, job, fine_tune, judge)
    before = job.value(lambda: judge(model))
    if max_drop is not None and before is None:
        raise errors.ConfigError(
            "max_drop needs a metric: pass evaluate, a function of a model, or a "
            "Training with validation data."
        )
    limit = loop.Limit(before, max_drop, higher_is_better)
    smaller, steps = loop.run(method, model, limit)
    job.finish()
    stopped = _reached(target, steps[-1])
    if not steps[-1].is_kept:
        stopped = (
            f"step {steps[-1].number} made the metric {limit.lost(steps[-1]):.4g} "
            f"worse, more than max_drop={max_drop:g}; it is undone"
        )
    return smaller, loop.LoopReport(
        steps=steps,
        before=count.count(graph_keras.read(model)),
        after=count.count(graph_keras.read(smaller)),
        metric_before=before,
        stopped=stopped,
    )


def _no_metric(model: Any) -> float | None:
    return None


def _reached(target: budget_lib.Budget, step: PruningStep) -> str:
    """Says how the last step left the target; a limit is met, or refused before."""
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


class _Iterative:
    """Cuts by a criterion to the next part of the target."""

    step_type = PruningStep

    def __init__(
        self,
        model: Any,
        target: budget_lib.Budget,
        how: IterativeOptions,
        job: ResumableJob,
        fine_tune: Callable[[Any], Any],
        judge: Callable[[Any], float | None],
    ):
        self._kind = graph_keras.keras_of(model)
        self._target = target
        self._how = how
        self._job = job
        self._fine_tune = fine_tune
        self._judge = judge
        self._data = None if how.data is None else [*training.batches(how.data)]
        self._budgets = StepBudgets(self._channels(model), target, how.steps, how.curve)

    def _channels(self, model: Any) -> channels_lib.Channels:
        return budget_lib.analyze(graph_keras.read(model), self._target)

    def cut(self, model: Any, steps: Sequence[loop.Step]) -> loop.Cut | None:
        """Ends after the number of steps, or with one that lost too much."""
        if len(steps) == self._how.steps or not all(step.is_kept for step in steps):
            return None
        channels = self._channels(model)
        # Kept, as measured costs would not give the same plan a second time.
        keep = self._job.value(lambda: self._plan(channels, len(steps)))
        smaller, report = cutting.cut_and_prove(
            channels,
            keep,
            self._kind,
            batches=self._data or (),
            fold=self._how.fold,
            original=model,
        )
        figures = {"error": report.error, "skipped": channels.skipped}
        is_smaller = not all(kept.all() for kept in keep.values())
        return loop.Cut(model=smaller, figures=figures, trains=is_smaller)

    def _plan(
        self, channels: channels_lib.Channels, step: int
    ) -> dict[str, channels_lib.Mask]:
        how = self._how
        scores = cutting.score_by(
            channels, self._kind, how.criterion, self._data, how.loss
        )
        budget = self._budgets.budget(step, channels, scores.groups)
        return budget_lib.plan(channels, scores, budget)

    def train(self, model: Any) -> tuple[Any, Mapping[str, Any]]:
        """Trains as the user said."""
        return self._job.tuned(model, self._fine_tune), {}

    def measure(self, model: Any) -> Mapping[str, Any]:
        """Returns the metric, and what the budget limits."""
        left = self._channels(model)
        has_limit = budget_lib.limit_of(self._target) is not None

        def figures() -> tuple[float | None, float | None]:
            cost = budget_lib.cost_of(left.graph, self._target) if has_limit else None
            return self._judge(model), cost

        metric, cost = self._job.value(figures)
        ratio = self._budgets.removed(left)
        return {"metric": metric, "cost": cost, "pruning_ratio": ratio}
