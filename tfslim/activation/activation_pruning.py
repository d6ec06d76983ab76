"""Activation-count pruning: units that hardly ever fire go, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import checks, errors, fields, tasks
from tfslim.activation import counts as activity_lib
from tfslim.activation.balance import balance_units
from tfslim.graph import count, ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import criteria, loop
from tfslim.pruning import prune as cutting
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.reconstruct import reconstruct_kernels
from tfslim.pruning.step_budgets import StepBudgets
from tfslim.training import seeds, training, with_overrides
from tfslim.training.job import ResumableJob, options_of

# Steps in which a target is reached if nothing is said.
_STEPS = 5
# The share of units that "auto" tries to do without first.
_FIRST_SHARE = 0.5
# Batches that kernels are re-fitted on.
_FIT_BATCHES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationStep(loop.Step):
    """One step of counting, removing and training.

    Attributes:
        removed: units that went because they were active too seldom.
        rate: the highest activation rate among those removed, 0..1.
        units: those that are left, of all that are counted.
    """

    removed: int
    rate: float
    units: int

    def lines(self) -> Iterator[str]:
        """Yields the step in one line."""
        for line in super().lines():
            yield (
                f"{line}: {self.removed} units removed, active at most "
                f"{self.rate:.2%} of the time; {self.units} left"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationReport(loop.LoopReport):
    """What activation pruning did; it can still be used as the tuple of its steps."""

    def __iter__(self) -> Iterator[ActivationStep]:
        """Yields the steps."""
        return iter(self.steps)

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.steps)

    def __getitem__(self, number: Any) -> Any:
        """Returns a step."""
        return self.steps[number]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationOptions(fields.Checked):
    """How units are chosen and what is done besides.

    Attributes:
        threshold: units that are active at most so often are removed, until none is:
            an int counts values above zero, a float in [0, 1) is their share. `auto`
            removes idle units, then tries to do without the half of the rest that
            contributes least (see `counts.contributions`), undoes what costs more than
            `max_drop`, tries half as many, and so on down to one.
        cycles: the number of steps to a target (5), or the most that a threshold may
            take (None: until nothing falls).
        max_drop: of `auto`: how much worse the validation metric may become than after
            the first training.
        reconstruct: re-fit the kernels that lost inputs to what they gave before, see
            `reconstruct_kernels`, and balance the units.
        is_trained: whether the first training can be left out.
    """

    threshold: int | float | str = 0
    cycles: int | None = fields.field(None, kind=int, least=1)
    max_drop: float = fields.field(0.0, least=0)
    reconstruct: bool = False
    is_trained: bool = False

    def __post_init__(self) -> None:
        """Checks the values."""
        super().__post_init__()
        value = self.threshold
        is_count = isinstance(value, int) and not isinstance(value, bool)
        is_right = (
            value == "auto"
            or (is_count and value >= 0)  # type: ignore[operator]
            or (isinstance(value, float) and 0.0 <= value < 1.0)
        )
        if not is_right:
            raise errors.ConfigError(
                "threshold must be a count (an int, 0 or more), a share (a float in "
                f"[0, 1)) or 'auto', got {value!r}."
            )


@checks.by_name
@seeds.kept()
def activation_pruning(
    model: Any,
    data: Any,
    *,
    fine_tune: training.Training | Callable[[Any], Any],
    pruning_ratio: float | None = None,
    budget: budget_lib.Budget | None = None,
    backup_dir: Path | str | None = None,
    options: ActivationOptions | None = None,
    **overrides: Any,
) -> tuple[Any, ActivationReport]:
    """Trains, counts how often units are active, removes the idle ones, and again.

    A unit is one of a Dense layer or a channel of a convolution, plain or transposed,
    that is followed by a rectifier; see `count_activations`.

    Source: Hu et al., "Network Trimming", 2016, https://arxiv.org/abs/1607.03250.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3; not changed.
        data: where activations are counted: arrays (x, y) or x alone, or batches.
        fine_tune: how to train: a `Training`, or a function that trains a model in
            place or returns the trained one.
        pruning_ratio: in place of a threshold, the share of each layer's units to
            remove, those that are active least.
        budget: in place of a threshold, a target in other terms; `scope="global"`
            compares the units of all layers, each by its layer's mean rate.
        backup_dir: where finished trainings are kept until the end; the same call
            resumes there after a kill, a `Training` from its last epoch. None: that of
            the `Training`.
        options: how units are chosen; None takes the defaults.
        **overrides: fields of `ActivationOptions` that replace those of `options`, such
            as `threshold`.

    Returns:
        The model after the last step that is kept, not compiled, and the report.

    Raises:
        ConfigError: options that do not fit together.
        VerificationError: a cut differs from the masked original.
    """
    how = with_overrides(options, overrides, kind=ActivationOptions)
    budget = _target(pruning_ratio, budget, how=how)
    original = graph_keras.read(model)
    fit_options = options_of(fine_tune, backup_dir)
    _check_judge(fine_tune, how)
    units = activity_lib.countable(channels_lib.analyze(original))
    if not units:
        raise errors.ConfigError(
            f"Model '{original.name}' has no units to count: none that can be removed "
            "is followed by a rectifier such as ReLU."
        )
    description = {"method": "activation_pruning", "budget": budget, **vars(how)}
    job = ResumableJob(fit_options, model, description=description)
    kind: Any = _Auto if how.threshold == "auto" else _Threshold
    method = (kind if budget is None else _Target)(
        graph=original,
        kind=graph_keras.keras_of(model),
        how=how,
        budget=budget,
        job=job,
        fine_tune=fine_tune,
        # Walked over once a step. In a tuple each, as the inputs may be a tuple, too.
        inputs=[(training.inputs_of(batch),) for batch in training.batches(data)],
        producers=frozenset(group.producers[0] for group in units),
    )
    current = graph_keras.write(original, graph_keras.keras_of(model))
    if not how.is_trained:
        current = job.tuned(current, fine_tune)
    limit = method.limit(current)
    smaller, steps = loop.run(method, current, limit=limit)
    job.finish()
    report = ActivationReport(
        steps=steps,
        before=count.count(original),
        after=count.count(graph_keras.read(smaller)),
        metric_before=limit.baseline if limit else None,
    )
    return smaller, report


def _target(
    pruning_ratio: float | None,
    budget: budget_lib.Budget | None,
    *,
    how: ActivationOptions,
) -> budget_lib.Budget | None:
    if pruning_ratio is not None and budget is not None:
        raise errors.ConfigError("Pass pruning_ratio or a Budget, not both.")
    if pruning_ratio is not None:
        budget = budget_lib.Budget(pruning_ratio=pruning_ratio)
    if budget is not None and how.threshold != 0:
        raise errors.ConfigError(
            "Pass a threshold or a target (pruning_ratio, budget), not both."
        )
    return budget


def _check_judge(fine_tune: Any, how: ActivationOptions) -> None:
    if how.threshold != "auto":
        return
    if not isinstance(fine_tune, training.Training) or fine_tune.validation is None:
        raise errors.ConfigError(
            "threshold='auto' needs a metric: pass a Training with validation data."
        )


@dataclasses.dataclass(kw_only=True)
class _Counting(loop.Method):
    """Counts activations, removes units and trains; subclasses say which and when.

    Attributes:
        graph: the user's.
        inputs: batches to count on.
        producers: the layers that make units, also when a single one is left.
    """

    step_type = ActivationStep

    graph: ir.Graph
    kind: graph_keras.KerasName
    how: ActivationOptions
    budget: Any
    job: ResumableJob
    fine_tune: Any
    inputs: list[Any]
    producers: frozenset[str]

    def limit(self, model: Any) -> loop.Limit | None:
        """Returns what a step may cost; None: whatever it does."""
        return None

    def _removed(self, model: Any, choose: activity_lib.Choice) -> loop.Cut:
        """Counts activations and removes what is not chosen."""
        channels = self._channels(model)
        activity = activity_lib.count_channels(channels, self.kind, data=self.inputs)
        keep = choose(channels, activity)
        gone = [activity.rates[name][~kept] for name, kept in keep.items()]
        rates = np.concatenate([np.empty(0), *gone])
        skipped = {**channels.skipped, **activity.uncounted}
        if self.budget is not None:
            skipped |= cutting.whole_groups(keep, self.budget)
        figures: dict[str, Any] = {
            "removed": len(rates),
            "rate": float(rates.max(initial=0.0)),
            "skipped": skipped,
        }
        if not len(rates):
            return loop.Cut(model=model, figures=figures, trains=False)
        smaller, report = cutting.cut_and_prove(
            channels, keep, kind=self.kind, batches=self.inputs, original=model
        )
        if self.how.reconstruct:
            smaller, _ = reconstruct_kernels(
                model, smaller, keep=keep, data=self.inputs[:_FIT_BATCHES]
            )
            smaller = balance_units(smaller)
        return loop.Cut(model=smaller, figures={**figures, "error": report.error})

    def _channels(self, model: Any) -> channels_lib.Channels:
        graph = graph_keras.read(model)
        if self.budget is None:
            return channels_lib.analyze(graph)
        return budget_lib.analyze(graph, self.budget)

    def _units(self, model: Any) -> int:
        """Returns how many units are left that are counted."""
        layers = graph_keras.read(model).layers
        configs = [layers[name].config for name in self.producers]
        return sum(config.get("units", config.get("filters")) for config in configs)

    def measure(self, model: Any) -> Mapping[str, Any]:
        """Returns the metric on validation data, and the number of units."""
        judge = self.fine_tune
        metric = judge.metric(model) if isinstance(judge, training.Training) else None
        return {"metric": metric, "units": self._units(model)}


class _Threshold(_Counting):
    """Removes what is active too seldom, until nothing is."""

    def cut(self, model: Any, steps: Sequence[Any]) -> loop.Cut | None:
        if steps and (not steps[-1].removed or len(steps) == self.how.cycles):
            return None
        threshold: Any = self.how.threshold
        return self._removed(model, activity_lib.above(threshold))


@dataclasses.dataclass(kw_only=True)
class _Target(_Counting):
    """Removes what is active least, to a target in equal steps."""

    def __post_init__(self) -> None:
        # Before the first training: a target may be out of reach.
        channels = budget_lib.analyze(self.graph, self.budget)
        steps = self.how.cycles or _STEPS
        self.budgets = StepBudgets(channels, self.budget, steps=steps, curve="cubic")

    def cut(self, model: Any, steps: Sequence[Any]) -> loop.Cut | None:
        if len(steps) == (self.how.cycles or _STEPS):
            return None

        def choose(
            channels: channels_lib.Channels, activity: activity_lib.Activity
        ) -> dict[str, channels_lib.Mask]:
            plan = self.budgets.budget(len(steps), channels, activity.rates)
            # Deep layers are active less often, so rates compare within a layer only.
            even = criteria.NORMALIZATIONS.get("mean")
            rates = {name: even(values) for name, values in activity.rates.items()}
            scores = scores_lib.Scores(rates, activity.uncounted)
            return budget_lib.plan(channels, scores, budget=plan)

        return self._removed(model, choose)


class _Auto(_Counting):
    """Tries to do without as many units as the metric allows."""

    _wanted: int | None = None
    # Whether the last step took idle units only, without a training.
    _was_free = False

    def limit(self, model: Any) -> loop.Limit:
        judge = self.fine_tune
        higher = tasks.resolve(judge.task, model).higher_is_better
        return loop.Limit(judge.metric(model), self.how.max_drop, higher)

    def cut(self, model: Any, steps: Sequence[Any]) -> loop.Cut | None:
        if len(steps) == self.how.cycles:
            return None
        if self._wanted is None:
            self._wanted = self._units(model)
        elif not self._was_free and not steps[-1].is_kept:
            self._wanted //= 2
        if not self._was_free:
            # What never fires goes without training.
            free = self._removed(model, activity_lib.above(0))
            if free.trains:
                self._was_free = True
                return dataclasses.replace(free, trains=False)
        self._was_free = False
        groups = activity_lib.countable(self._channels(model))
        spare = sum(map(len, groups)) - len(groups)
        first = int(self._units(model) * _FIRST_SHARE)
        self._wanted = min(self._wanted, first, spare)
        if self._wanted == 0:
            return None
        return self._removed(model, activity_lib.without(self._wanted))
