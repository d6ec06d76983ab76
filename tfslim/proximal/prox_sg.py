"""Prox-SG: training that makes zeros, whose share in a layer says how much to cut.

Source: Xu, "Research on Model Compression Based on Convolutional Neural Network":
train with Prox-SG, take the sparsity of each kernel as its compression ratio, build
the smaller network and train it again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tf_keras

from tfslim import checks, errors, fields
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.proximal.optimizers import Proximal
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import loop, sparse_training
from tfslim.pruning import ratios as ratios_lib
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.prune import PruneReport, prune_channels
from tfslim.pruning.step_budgets import StepBudgets
from tfslim.training import FitOptions, seeds
from tfslim.training.training import Training

# Of an idle weight over the training, in units of the mean magnitude of its kernel.
_SHRINKAGE = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxStep(loop.Step):
    """The training with Prox-SG, the cut and the training after it.

    Attributes:
        sparsity: layer -> share of its kernel that was zero after the training.
        ratios: group of channels -> share that was removed.
        sparse_training: Keras' logs of that training, one value per epoch.
        cut: what was removed.
        fine_tuning: Keras' logs of the training after the cut.
    """

    sparsity: Mapping[str, float]
    ratios: Mapping[str, float]
    sparse_training: Mapping[str, list[float]]
    cut: PruneReport
    fine_tuning: Mapping[str, list[float]]

    def lines(self) -> Iterator[str]:
        """Yields a line per layer."""
        for name, sparsity in self.sparsity.items():
            ratio = self.ratios.get(name)
            then = "" if ratio is None else f", {ratio:.1%} of the channels removed"
            yield f"{name}: {sparsity:.1%} of the kernel is zero{then}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxReport(loop.LoopReport):
    """What training with Prox-SG and the cut after it did: one step."""

    @property
    def step(self) -> ProxStep:
        """The only step."""
        [step] = self.steps
        return step

    sparsity = checks.renamed("sparsity", "step.sparsity")
    ratios = checks.renamed("ratios", "step.ratios")
    sparse_training = checks.renamed("sparse_training", "step.sparse_training")
    cut = checks.renamed("cut", "step.cut")
    retraining = checks.renamed("retraining", "step.fine_tuning")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxOptions(sparse_training.SparseOptions):
    """Options of Prox-SG beside those of the training.

    The sparse training runs without momentum, which would carry weights away from
    zero. A network that has learnt nothing yet takes a higher `sparse_learning_rate`,
    0.1. Without a `strength`, but with `relative`, a weight that nothing holds would
    shrink by twice the mean magnitude of its kernel. Without a `share`, all of a kernel
    is penalized, but for "group_lasso" with a budget the share of the channels that an
    even cut to the budget takes.

    Attributes:
        relative: see `tfslim.optimizers.Proximal`.
        penalty: "l1" for zeros anywhere in a kernel, "group_lasso" for whole filters.
        divisor: widths are rounded up to a multiple of it; a budget has its own.
    """

    relative: bool = True
    penalty: str = "l1"
    divisor: int = fields.field(16, least=1)


@checks.by_name
@seeds.kept()
def prox_sg(
    model: Any,
    train: Any,
    *,
    validation: Any = None,
    task: Any = "classification",
    budget: budget_lib.Budget | None = None,
    how: ProxOptions | None = None,
    options: FitOptions | None = None,
    **overrides: Any,
) -> tuple[Any, ProxReport]:
    """Trains a model with Prox-SG, cuts each layer by its zeros, and trains it again.

    The weakest channels by L1 norm go. The model itself is not changed.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3.
        train: as for `tfslim.fit`; or a `Training`, which also has the validation data,
            the task and the options.
        validation: as for `tfslim.fit`; chooses the best epoch of the fine-tuning.
        task: what the model is for, as for `tfslim.fit`.
        budget: a limit to meet: the ratios are raised or lowered together until they
            just do. None cuts exactly what the zeros say.
        how: options of the method; None takes the defaults.
        options: how to train; `epochs` is not used, `optimizer` only for fine-tuning.
            With `backup_dir`, the same call resumes from the last epoch after a kill.
        **overrides: fields of `ProxOptions`, such as `strength`, or of `FitOptions`
            that replace those of `how` and `options`.

    Returns:
        A smaller plain model of the same Keras, not compiled, and the report.

    Raises:
        ConfigError: an option, no kernel to penalize, or a limit that cannot be met.
        GraphError: the model cannot be read or rebuilt.
        VerificationError: the cut model differs from the masked one.

    Example:
        smaller, report = prox_sg(
            model, data["train"], data["validation"],
            task="classification",
        )
    """
    checks.renamed_keyword(overrides, "retrain_epochs", new="fine_tune_epochs")
    given = Training.of(train, validation, task, options)
    own, training = given.split(ProxOptions, how, overrides)
    if budget is not None:
        _check_budget(graph_keras.read(model), budget)
    smaller, report = _ProxSg(model, training, own, budget).run(model)
    return smaller, ProxReport(**vars(report))


class _ProxSg(sparse_training.SparseMethod):
    name = "prox_sg"
    step_type = ProxStep

    def cut(self, model: Any, steps: Sequence[Any]) -> loop.Cut | None:
        """Trains with Prox-SG and cuts by the zeros, once."""
        if steps:
            return None
        how = self.how
        strength, share = how.strength, self._share(model)
        if strength is None:
            strength = _general_strength(self.total_rate(), relative=how.relative)
        logs = self.train_sparse(
            model,
            lambda rate: Proximal(
                tf_keras.optimizers.SGD(rate),
                model,
                strength=strength,
                penalty=how.penalty,
                share=share,
                layers=how.layers,
                relative=how.relative,
            ),
        ).history
        sparse = graph_keras.read(model)
        sparsity = ratios_lib.ratios_from_sparsity(sparse)
        ratios, budget = self._plan(sparse, sparsity)
        smaller, report = prune_channels(model, budget=budget)
        figures = {
            "sparsity": sparsity,
            "ratios": ratios,
            "sparse_training": logs,
            "cut": report,
            "error": report.error,
            "skipped": report.skipped,
        }
        return loop.Cut(model=smaller, figures=figures)

    def _share(self, model: Any) -> float:
        """Returns which part of each kernel is penalized."""
        budget = self.budget
        if self.how.share is not None:
            return float(self.how.share)
        if self.how.penalty != "group_lasso" or budget is None:
            return 1.0
        even = dataclasses.replace(budget, scope="uniform")

        def fraction() -> float:
            channels = budget_lib.analyze(graph_keras.read(model), even)
            scores = scores_lib.score_channels(channels, scores_lib.Scoring())
            return sparse_training.fraction_to_prune(channels, scores, even)

        return float(self.job.value(fraction))

    def _plan(
        self, graph: ir.Graph, sparsity: Mapping[str, float]
    ) -> tuple[dict[str, float], budget_lib.Budget]:
        """Returns the ratio of each group and the budget that has them."""
        own = budget_lib.Budget(pruning_ratio=0.0, divisor=self.how.divisor)
        budget = self.budget
        channels = budget_lib.analyze(graph, budget or own)
        ratios, _ = ratios_lib.group_ratios(channels, sparsity)
        if budget is None:
            return ratios, dataclasses.replace(own, ratios=ratios)
        ratios = ratios_lib.meet_limit(channels, ratios, budget=budget)
        return ratios, budget_lib.Budget(
            pruning_ratio=0.0,
            ratios=ratios,
            min_channels=budget.min_channels,
            divisor=budget.divisor,
            ignore=budget.ignore,
            cut_layer_norms=budget.cut_layer_norms,
        )


def _check_budget(graph: ir.Graph, budget: budget_lib.Budget) -> None:
    """Refuses a budget without a limit, or one out of reach for any order."""
    ratios_lib.required_limit(budget)
    StepBudgets(budget_lib.analyze(graph, budget), budget, steps=1, curve="geometric")


def _general_strength(total_rate: float, *, relative: bool) -> float:
    if not relative:
        raise errors.ConfigError(
            "Without relative=True there is no general strength: pass one. 1e-4 is "
            "usual for a long training."
        )
    return _SHRINKAGE / total_rate
