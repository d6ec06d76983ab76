"""Network slimming: sparse training, a cut by the scales that are left, fine-tuning.

Source: Liu et al., "Learning Efficient Convolutional Networks through Network
Slimming", ICCV 2017, https://arxiv.org/abs/1708.06519.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tfslim import checks, errors, fields
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import constants, loop, sparse_training
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.prune import PruneReport, prune_channels
from tfslim.pruning.step_budgets import StepBudgets
from tfslim.slimming.penalty import NetworkSlimming, gamma_histogram, mean_scale
from tfslim.training import FitOptions, seeds
from tfslim.training.training import Training

# The paper ranks the scales of all layers together, as they are.
_SCORING = scores_lib.Scoring(criterion="bn_scale", normalization="none")
# How many times the way to zero an idle scale of average size could go.
_TRAVEL = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlimmingStep(loop.Step):
    """One step of sparse training, cut and fine-tuning.

    Attributes:
        sparse: what `NetworkSlimming` measured, one dict per epoch.
        histograms: `gamma_histogram` by stage: "before", "sparse" (after the sparse
            training) and "after" (the cut and the fine-tuning).
        cut: what was removed.
        fine_tuning: Keras' logs, one value per epoch.
    """

    sparse: Sequence[Mapping[str, Any]]
    histograms: Mapping[str, Mapping[str, list[float]]]
    cut: PruneReport
    fine_tuning: Mapping[str, list[float]]

    def lines(self) -> Iterator[str]:
        """Yields the step and its scales, a few lines."""
        yield from super().lines()
        yield (
            f"  {self.sparse[-1]['sparsity']:.1%} of the scales near zero after "
            f"{len(self.sparse)} epochs of sparse training"
        )
        for stage, histogram in self.histograms.items():
            yield f"  scales {stage:>6}: {' '.join(map(str, histogram['counts']))}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlimmingOptions(sparse_training.SparseOptions):
    """Options of network slimming beside those of the training.

    The sparse training runs with SGD and momentum 0.9: Adam would divide the
    penalty's gradient away. Without a `strength`, an idle scale of average size comes
    to zero in two thirds of the sparse training. Without a `share`, as many scales are
    penalized as the cut would take channels now.

    Attributes:
        passes: steps; each removes the same share of what is left.
        schedule: how the strength goes over the epochs of a sparse training, see
            `NetworkSlimming`.
        fold: see `prune_channels`.
    """

    passes: int = fields.field(1, least=1)
    schedule: str | Callable[[int], float] = "constant"
    fold: str = fields.field("exact", choices=constants.FOLDS)


@checks.by_name
@seeds.kept()
def slim_network(
    model: Any,
    train: Any,
    *,
    validation: Any = None,
    task: Any = "classification",
    pruning_ratio: float | None = None,
    budget: budget_lib.Budget | None = None,
    how: SlimmingOptions | None = None,
    options: FitOptions | None = None,
    **overrides: Any,
) -> tuple[Any, loop.LoopReport]:
    """Trains a model with a penalty on its scales, cuts idle channels, fine-tunes it.

    Channels that are added up along a residual trunk form a group and go together, by
    the mean of their scales. The model itself is not changed.

    Args:
        model: a trained functional or Sequential model of tf_keras or Keras 3, with
            batch normalization.
        train: as for `tfslim.fit`; or a `Training`, which also has
            the validation data, the task and the options.
        validation: as for `tfslim.fit`; chooses the best epoch of the fine-tuning.
        task: what the model is for, as for `tfslim.fit`.
        pruning_ratio: share of all channels to remove, those with the smallest scales
            of the whole network.
        budget: limits and patterns in place of `pruning_ratio`; its `scope` counts.
        how: options of the method; None takes the defaults.
        options: how to train, for all trainings alike; `epochs` is not used. With
            `backup_dir`, the same call resumes from the last epoch after a kill.
        **overrides: fields of `SlimmingOptions`, such as `passes`, or of `FitOptions`
            that replace those of `how` and `options`.

    Returns:
        A smaller plain model of the same Keras, not compiled, and the report.

    Raises:
        ConfigError: an option, no scales to penalize, or a limit that cannot be met.
        GraphError: the model cannot be read or rebuilt.
        VerificationError: a cut model differs from the masked one.

    Example:
        smaller, report = slim_network(
            model, data["train"], data["validation"],
            task="classification", pruning_ratio=0.6,
        )
    """
    given = Training.of(train, validation, task, options)
    own, training = given.split(SlimmingOptions, how, overrides)
    if (pruning_ratio is None) == (budget is None):
        raise errors.ConfigError(
            "Pass either pruning_ratio (0.6 removes 60% of all channels) or a Budget."
        )
    target = budget or budget_lib.Budget(pruning_ratio=pruning_ratio, scope="global")
    return _Slimming(model, training, own, target).run(model)


class _Slimming(sparse_training.SparseMethod):
    name = "slim_network"
    step_type = SlimmingStep

    def __init__(self, model: Any, *job: Any):
        super().__init__(model, *job)
        how, budget = self.how, self.budget
        channels = budget_lib.analyze(graph_keras.read(model), budget)
        self._budgets = StepBudgets(
            channels, budget, steps=how.passes, curve="geometric"
        )
        self._histograms: dict[str, Any] = {}

    def cut(self, model: Any, steps: Sequence[Any]) -> loop.Cut | None:
        """Trains under the penalty and cuts, `passes` times."""
        if len(steps) == self.how.passes:
            return None
        callback = self._penalty(model, len(steps))
        self._histograms = {"before": self._histogram(model)}
        self.train_sparse(model, callbacks=[callback])
        self._histograms["sparse"] = self._histogram(model)
        _, _, budget = self._target(model, len(steps))
        smaller, report = prune_channels(
            model, criterion=_SCORING, budget=budget, fold=self.how.fold
        )
        figures = {
            "sparse": callback.history,
            "cut": report,
            "error": report.error,
            "skipped": {**callback.skipped, **report.skipped},
        }
        return loop.Cut(model=smaller, figures=figures)

    def measure(self, model: Any) -> Mapping[str, Any]:
        """Returns the scales before and after."""
        return {"histograms": {**self._histograms, "after": self._histogram(model)}}

    def _histogram(self, model: Any) -> dict[str, list[float]]:
        return gamma_histogram(model, layers=self.how.layers)

    def _penalty(self, model: Any, step: int) -> NetworkSlimming:
        how = self.how
        strength, share = how.strength, how.share
        if strength is None:
            # Momentum adds up to 1 / (1 - momentum) steps in the same direction.
            pull = self.total_rate() / (1.0 - sparse_training.MOMENTUM)
            strength = _TRAVEL * mean_scale(model, layers=how.layers) / pull
        if share is None:
            share = self.job.value(lambda: self._fraction(model, step))
        return NetworkSlimming(
            strength, share=share, layers=how.layers, schedule=how.schedule
        )

    def _fraction(self, model: Any, step: int) -> float:
        return sparse_training.fraction_to_prune(*self._target(model, step))

    def _target(
        self, model: Any, step: int
    ) -> tuple[channels_lib.Channels, scores_lib.Scores, budget_lib.Budget]:
        """Returns the channels, how they score now, and what this step may leave."""
        channels = budget_lib.analyze(graph_keras.read(model), self.budget)
        scores = scores_lib.score_channels(channels, _SCORING)
        return channels, scores, self._budgets.budget(step, channels, scores.groups)
