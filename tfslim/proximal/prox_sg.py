"""Prox-SG: training that makes zeros, whose share in a layer says how much to cut.

Source: Xu, "Research on Model Compression Based on Convolutional Neural Network":
train with Prox-SG, take the sparsity of each kernel as its compression ratio, build
the smaller network and train it again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tf_keras

from tfslim import errors
from tfslim.graph import count, ir
from tfslim.graph import keras as graph_keras
from tfslim.proximal.optimizers import Proximal
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import phases
from tfslim.pruning import ratios as ratios_lib
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.prune import PruneReport, prune_channels
from tfslim.pruning.rounds import Rounds
from tfslim.training import FitOptions

# Of an idle weight over the training, in units of the mean magnitude of its kernel.
_SHRINKAGE = 2.0


@dataclasses.dataclass(frozen=True)
class ProxReport:
    """What training with Prox-SG and the cut after it did.

    Attributes:
        sparsity: layer -> share of its kernel that was zero after the training.
        ratios: group of channels -> share that was removed.
        sparse_training: Keras' logs of that training, one value per epoch.
        cut: what was removed.
        retraining: Keras' logs of the training after the cut.
        before: the cost of the model that was passed in.
        after: the cost of the one that came out.
    """

    sparsity: Mapping[str, float]
    ratios: Mapping[str, float]
    sparse_training: Mapping[str, list[float]]
    cut: PruneReport
    retraining: Mapping[str, list[float]]
    before: count.Counts
    after: count.Counts

    def lines(self) -> Iterator[str]:
        """Yields the report, a line per layer."""
        for name, sparsity in self.sparsity.items():
            ratio = self.ratios.get(name)
            then = "" if ratio is None else f", {ratio:.1%} of the channels removed"
            yield f"{name}: {sparsity:.1%} of the kernel is zero{then}"
        for name, why in self.cut.left_alone.items():
            yield f"left alone: {name}: {why}"
        yield phases.summary(self.before, self.after)

    def __str__(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines())


def prox_sg(
    model: Any,
    train: Any,
    validation: Any = None,
    *,
    task: Any,
    strength: float | None = None,
    relative: bool = True,
    penalty: str = "l1",
    share: float | None = None,
    layers: str | Sequence[str] = "*",
    budget: budget_lib.Budget | None = None,
    divisor: int = 16,
    sparse_epochs: int = 10,
    retrain_epochs: int = 10,
    sparse_learning_rate: float = 0.05,
    options: FitOptions | None = None,
    **overrides: Any,
) -> tuple[Any, ProxReport]:
    """Trains a model with Prox-SG, cuts each layer by its zeros, and trains it again.

    The weakest channels by L1 norm go. The model itself is not changed.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3.
        train: as for `tfslim.fit`.
        validation: as for `tfslim.fit`; chooses the best epoch of the retraining.
        task: what the model is for, as for `tfslim.fit`.
        strength: weight of the penalty, see `tfslim.optimizers.Proximal`. None takes,
            with `relative`, what would shrink a weight that nothing holds by twice the
            mean magnitude of its kernel.
        relative: see `tfslim.optimizers.Proximal`.
        penalty: "l1" for zeros anywhere in a kernel, "group_lasso" for whole filters.
        share: which part of each kernel is penalized, see `tfslim.optimizers.Proximal`.
            None takes, for "group_lasso" with a budget, the share of the channels that
            an even cut to the budget takes; otherwise all.
        layers: names or patterns of the layers to penalize.
        budget: a limit to meet: the ratios are raised or lowered together until they
            just do. None cuts exactly what the zeros say.
        divisor: widths are rounded up to a multiple of it; a budget has its own.
        sparse_epochs: length of the training with Prox-SG (without momentum, which
            would carry weights away from zero); its last epoch counts, not its most
            accurate one.
        retrain_epochs: length of the training after the cut.
        sparse_learning_rate: peak for Prox-SG; more, 0.1, for a network that has learnt
            nothing yet. The retraining has that of `options`.
        options: how to train; `epochs` is not used, `optimizer` only for retraining.
            With `backup_dir`, the same call after a kill goes on from the last epoch.
        **overrides: fields of `FitOptions` that replace those of `options`.

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
    trainer = phases.Trainer(train, validation, task, options, overrides)
    trainer.check(
        sparse_epochs=sparse_epochs,
        retrain_epochs=retrain_epochs,
        sparse_learning_rate=sparse_learning_rate,
    )
    own = budget_lib.Budget(pruning_ratio=0.0, divisor=divisor)
    if budget is not None:
        _check_budget(graph_keras.read(model), budget)
    trainer = trainer.backed_up(
        model,
        {
            "method": "prox_sg",
            "strength": strength,
            "relative": relative,
            "penalty": penalty,
            "share": share,
            "layers": layers,
            "budget": budget,
            "divisor": divisor,
            "epochs": [sparse_epochs, retrain_epochs],
            "sparse_learning_rate": sparse_learning_rate,
        },
    )
    current = graph_keras.to_tf_keras(model)
    if strength is None:
        rates = trainer.total_rate(sparse_epochs, sparse_learning_rate)
        strength = _general_strength(rates, relative=relative)
    if share is None:
        share = 1.0
        if penalty == "group_lasso" and budget is not None:
            graph = graph_keras.read(current)
            share = trainer.backup.value(functools.partial(_even_share, graph, budget))
    logs = trainer.run(
        current,
        sparse_epochs,
        keep="last",
        learning_rate=sparse_learning_rate,
        optimizer=lambda rate: Proximal(
            tf_keras.optimizers.SGD(rate),
            current,
            strength=strength,
            penalty=penalty,
            share=share,
            layers=layers,
            relative=relative,
        ),
    ).history
    graph, report = _shrink(trainer, current, logs, (budget, own), retrain_epochs)
    trainer.backup.finish()
    return graph_keras.write(graph, graph_keras.keras_of(model)), report


def _shrink(
    trainer: phases.Trainer,
    sparse: Any,
    logs: Mapping[str, list[float]],
    budgets: tuple[budget_lib.Budget | None, budget_lib.Budget],
    epochs: int,
) -> tuple[ir.Graph, ProxReport]:
    """Cuts a sparse model by its zeros, trains it again, and tells what was done."""
    whole = graph_keras.read(sparse)
    sparsity = ratios_lib.ratios_from_sparsity(whole)
    ratios, budget = _plan(whole, sparsity, *budgets)
    smaller, cut = prune_channels(sparse, budget=budget)
    retraining = trainer.run(smaller, epochs)
    graph = graph_keras.read(smaller)
    report = ProxReport(
        sparsity=sparsity,
        ratios=ratios,
        sparse_training=logs,
        cut=cut,
        retraining=retraining.history,
        before=count.count(whole),
        after=count.count(graph),
    )
    return graph, report


def _check_budget(graph: ir.Graph, budget: budget_lib.Budget) -> None:
    """Refuses a budget without a limit, or one out of reach for any order."""
    ratios_lib.required_limit(budget)
    Rounds(budget_lib.analyze(graph, budget), budget, 1, "geometric")


def _even_share(graph: Any, budget: budget_lib.Budget) -> float:
    """Returns the share of the channels that a cut of all layers alike takes."""
    channels = budget_lib.analyze(graph, budget)
    scores = scores_lib.score_channels(channels, scores_lib.Scoring())
    even = dataclasses.replace(budget, scope="uniform")
    return phases.share_to_go(channels, scores, even)


def _general_strength(total_rate: float, *, relative: bool) -> float:
    if not relative:
        raise errors.ConfigError(
            "Without relative=True there is no general strength: pass one. 1e-4 is "
            "usual for a long training."
        )
    return _SHRINKAGE / total_rate


def _plan(
    graph: Any,
    sparsity: Mapping[str, float],
    budget: budget_lib.Budget | None,
    own: budget_lib.Budget,
) -> tuple[dict[str, float], budget_lib.Budget]:
    """Returns the ratio of each group and the budget that has them.

    Args:
        graph: the sparse network.
        sparsity: layer -> share of its kernel that is zero.
        budget: the limit to meet, None for none.
        own: that without a limit.
    """
    channels = budget_lib.analyze(graph, budget or own)
    ratios, _ = ratios_lib.group_ratios(channels, sparsity)
    if budget is None:
        return ratios, dataclasses.replace(own, ratios=ratios)
    ratios = ratios_lib.meet_limit(channels, ratios, budget)
    return ratios, budget_lib.Budget(
        pruning_ratio=0.0,
        ratios=ratios,
        min_channels=budget.min_channels,
        divisor=budget.divisor,
        ignore=budget.ignore,
        cut_layer_norms=budget.cut_layer_norms,
    )
