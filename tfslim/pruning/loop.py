"""The one loop of pruning: cut, train, judge, and again until the method stops."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfslim import checks, errors
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import surgery
from tfslim.training import training
from tfslim.training.job import ResumableJob


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One turn of the loop.

    Attributes:
        number: from 1.
        params: weights that are left.
        macs: multiply-accumulates (1 MAC = 2 FLOPs) at batch 1 that are left.
        metric: after training; None if nothing measures it.
        error: how far the cut is proved, see `PruneReport`.
        skipped: layers and groups that were not cut, with the reason.
        is_kept: false for a step that lost too much and was undone.
    """

    number: int
    params: int
    macs: int
    metric: float | None = None
    error: float = 0.0
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_kept: bool = True
    left_alone = checks.renamed("left_alone", "skipped")

    def lines(self) -> Iterator[str]:
        """Yields the step in one line, or more."""
        metric = "" if self.metric is None else f", metric {self.metric:.4g}"
        undone = "" if self.is_kept else " (not kept)"
        yield (
            f"step {self.number}: params {self.params:,}, MACs {self.macs:,}"
            f"{metric}{undone}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopReport:
    """What the loop did.

    Attributes:
        steps: in order; a method has its own kind of `Step`.
        before: the cost of the model that was passed in.
        after: the cost of the one that came out.
        metric_before: of the model that was passed in; None if nothing measures it.
        stopped: why there was no further step, in one line; "" where that is plain.
    """

    steps: tuple[Any, ...]
    before: count.Counts
    after: count.Counts
    metric_before: float | None = None
    stopped: str = ""
    rounds = checks.renamed("rounds", "steps")
    passes = checks.renamed("passes", "steps")
    params_before = checks.renamed("params_before", "before.params")
    macs_before = checks.renamed("macs_before", "before.macs")

    @property
    def skipped(self) -> Mapping[str, str]:
        """Layers and groups that the last step did not cut, with the reason."""
        return self.steps[-1].skipped if self.steps else {}

    def lines(self) -> Iterator[str]:
        """Yields a line or more for each step, and the sums."""
        for step in self.steps:
            yield from step.lines()
        for name, why in self.skipped.items():
            yield f"skipped: {name}: {why}"
        yield from surgery.sums(self.before, self.after)
        if self.stopped:
            yield f"stopped: {self.stopped}"

    def __str__(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """A smaller model, before its training.

    Attributes:
        model: the smaller model.
        figures: what the method's kind of `Step` is to say of the cut.
        trains: whether a training is to follow; there is none where nothing was cut.
    """

    model: Any
    figures: Mapping[str, Any]
    trains: bool = True


class Method:
    """What a way of pruning brings to the loop: a subclass says how to cut.

    Attributes:
        step_type: the kind of `Step` that takes the figures.
        job: keeps finished trainings.
        fine_tune: how to train a cut model: a `Training`, or a function.
    """

    step_type: type[Step] = Step
    job: ResumableJob
    fine_tune: Any

    def cut(self, model: Any, steps: Sequence[Any]) -> Cut | None:
        """Plans and cuts; None ends the loop. What has to be trained first, it trains.

        Args:
            model: after the last step that was kept.
            steps: those before this one.
        """
        raise NotImplementedError

    def train(self, model: Any) -> tuple[Any, Mapping[str, Any]]:
        """Returns the trained model, and figures of its training."""
        return self.job.tuned(model, self.fine_tune), {}

    def measure(self, model: Any) -> Mapping[str, Any]:
        """Returns figures of a model at the end of a step."""
        return {}


@dataclasses.dataclass(frozen=True)
class Limit:
    """How much worse the metric may become; without `max_drop` as much as it likes.

    Attributes:
        baseline: the metric to compare with.
        max_drop: by how much a step may be worse.
        higher_is_better: of the metric.
    """

    baseline: float | None = None
    max_drop: float | None = None
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        """Refuses a limit without a metric."""
        if self.max_drop is not None and self.baseline is None:
            raise errors.ConfigError(
                "max_drop needs a metric: pass evaluate, a function of a model, or a "
                "Training with validation data."
            )

    def lost(self, step: Step) -> float:
        """Returns how much worse a step is than the baseline; a missing one endless."""
        if step.metric is None or self.baseline is None:
            return float("inf")
        return training.drop(
            step.metric, self.baseline, higher_is_better=self.higher_is_better
        )

    def allows(self, step: Step) -> bool:
        """Tells whether a step is to be kept."""
        return self.max_drop is None or self.lost(step) <= self.max_drop


def run(
    method: Method, model: Any, *, limit: Limit | None = None
) -> tuple[Any, tuple[Any, ...]]:
    """Cuts, trains and judges until the method stops.

    Returns:
        The model after the last step that was kept, and all steps.
    """
    steps: list[Step] = []
    while (cut := method.cut(model, steps)) is not None:
        logs: Mapping[str, Any] = {}
        smaller = cut.model
        if cut.trains:
            smaller, logs = method.train(smaller)
        cost = count.count(graph_keras.read(smaller))
        step = method.step_type(
            number=len(steps) + 1,
            params=cost.params,
            macs=cost.macs,
            **cut.figures,
            **logs,
            **method.measure(smaller),
        )
        if limit is not None and not limit.allows(step):
            step = dataclasses.replace(step, is_kept=False)
        steps.append(step)
        model = smaller if step.is_kept else model
    return model, tuple(steps)
