"""Network slimming: sparse training, a cut by the scales that are left, fine-tuning.

Source: Liu et al., "Learning Efficient Convolutional Networks through Network
Slimming", ICCV 2017, https://arxiv.org/abs/1708.06519.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tfslim import errors
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import constants, phases
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.prune import PruneReport, prune_channels
from tfslim.pruning.rounds import Rounds
from tfslim.slimming.penalty import NetworkSlimming, gamma_histogram, mean_scale
from tfslim.training import FitOptions

# The paper ranks the scales of all layers together, as they are.
_SCORING = scores_lib.Scoring(criterion="bn_scale", normalization="none")
# How many times the way to zero an idle scale of average size could go.
_TRAVEL = 1.5


@dataclasses.dataclass(frozen=True)
class SlimmingPass:
    """One round of sparse training, cut and fine-tuning.

    Attributes:
        sparse: what `NetworkSlimming` measured, one dict per epoch.
        histograms: `gamma_histogram` by stage: "before", "sparse" (after the sparse
            training) and "after" (the cut and the fine-tuning).
        cut: what was removed.
        fine_tuning: Keras' logs, one value per epoch.
        skipped: normalizations that were not penalized, with the reason.
    """

    sparse: Sequence[Mapping[str, Any]]
    histograms: Mapping[str, Mapping[str, list[float]]]
    cut: PruneReport
    fine_tuning: Mapping[str, list[float]]
    skipped: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class SlimmingReport:
    """What network slimming did.

    Attributes:
        passes: one entry per round.
        before: the cost of the model that was passed in.
        after: the cost of the one that came out.
    """

    passes: Sequence[SlimmingPass]
    before: count.Counts
    after: count.Counts

    def lines(self) -> Iterator[str]:
        """Yields the report, a few lines per pass."""
        for number, done in enumerate(self.passes, 1):
            yield (
                f"pass {number}: {done.sparse[-1]['sparsity']:.1%} of the scales near "
                f"zero after {len(done.sparse)} epochs of sparse training"
            )
            for stage, histogram in done.histograms.items():
                yield f"  scales {stage:>6}: {' '.join(map(str, histogram['counts']))}"
            counts = done.cut.cut
            yield (
                f"  cut: params {counts.before.params:,} -> {counts.after.params:,}, "
                f"MACs {counts.before.macs:,} -> {counts.after.macs:,}"
            )
            for name, why in {**done.skipped, **done.cut.left_alone}.items():
                yield f"  left alone: {name}: {why}"
        yield phases.summary(self.before, self.after)

    def __str__(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines())


def slim_network(
    model: Any,
    train: Any,
    validation: Any = None,
    *,
    task: Any,
    pruning_ratio: float | None = None,
    budget: budget_lib.Budget | None = None,
    passes: int = 1,
    strength: float | None = None,
    share: float | None = None,
    schedule: str | Callable[[int], float] = "constant",
    layers: str | Sequence[str] = "*",
    sparse_epochs: int = 10,
    fine_tune_epochs: int = 10,
    sparse_learning_rate: float = 0.05,
    fold: str = "exact",
    options: FitOptions | None = None,
    **overrides: Any,
) -> tuple[Any, SlimmingReport]:
    """Trains a model with a penalty on its scales, cuts what they call idle, retrains.

    Channels that are added up along a residual trunk form a group and go together, by
    the mean of their scales. The model itself is not changed.

    Args:
        model: a trained functional or Sequential model of tf_keras or Keras 3, with
            batch normalization.
        train: as for `tfslim.fit`.
        validation: as for `tfslim.fit`; chooses the best epoch of the fine-tuning.
        task: what the model is for, as for `tfslim.fit`.
        pruning_ratio: share of all channels to remove, those with the smallest scales
            of the whole network.
        budget: limits and patterns in place of `pruning_ratio`; its `scope` counts.
        passes: rounds; each removes the same share of what is left.
        strength: weight of the L1 penalty on the scales, see `NetworkSlimming`. None
            takes what brings a scale of average size that nothing holds to zero in two
            thirds of the sparse training: the shorter it is, the more.
        share: which part of the scales is penalized, see `NetworkSlimming`. None takes
            as many as the cut would take channels now.
        schedule: how the strength goes over the epochs of a sparse training.
        layers: names or patterns of the batch normalizations to penalize.
        sparse_epochs: length of each sparse training; its last epoch counts, not its
            most accurate one.
        fine_tune_epochs: length of each fine-tuning.
        fold: see `prune_channels`.
        sparse_learning_rate: peak for the sparse training, which runs with SGD and
            momentum 0.9: Adam would even out the pull of the penalty. The fine-tuning
            has the optimizer and rate of `options`.
        options: how to train, for all trainings alike; `epochs` is not used. With
            `backup_dir`, the same call after a kill goes on from the last epoch.
        **overrides: fields of `FitOptions` that replace those of `options`.

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
    if passes < 1:
        raise errors.ConfigError(f"passes must be 1 or more, got {passes}.")
    budget = _budget(pruning_ratio, budget)
    constants.check_mode(fold)
    trainer = phases.Trainer(train, validation, task, options, overrides)
    trainer.check(
        sparse_epochs=sparse_epochs,
        fine_tune_epochs=fine_tune_epochs,
        sparse_learning_rate=sparse_learning_rate,
    )
    trainer = trainer.backed_up(
        model,
        {
            "method": "slim_network",
            "budget": budget,
            "passes": passes,
            "strength": strength,
            "share": share,
            "schedule": schedule,
            "layers": layers,
            "epochs": [sparse_epochs, fine_tune_epochs],
            "sparse_learning_rate": sparse_learning_rate,
            "fold": fold,
        },
    )
    current = graph_keras.to_tf_keras(model)
    whole = _analyze(current, budget)
    rounds = Rounds(whole, budget, passes, "geometric")
    done = []
    for number in range(passes):
        pull, part = strength, share
        if pull is None:
            rates = trainer.total_rate(sparse_epochs, sparse_learning_rate)
            pull = _enough_strength(mean_scale(current, layers=layers), rates)
        if part is None:
            channels = _analyze(current, budget)
            part = trainer.backup.value(
                functools.partial(_share_to_go, rounds, number, channels)
            )
        callback = NetworkSlimming(pull, share=part, layers=layers, schedule=schedule)
        current, row = _pass(
            trainer,
            current,
            callback,
            functools.partial(_cut, rounds, number, budget, fold),
            (sparse_epochs, fine_tune_epochs),
            sparse_learning_rate,
        )
        done.append(row)
    trainer.backup.finish()
    graph = graph_keras.read(current)
    report = SlimmingReport(done, count.count(whole.graph), count.count(graph))
    return graph_keras.write(graph, graph_keras.keras_of(model)), report


def _pass(
    trainer: phases.Trainer,
    model: Any,
    callback: NetworkSlimming,
    cut: Callable[[Any], tuple[Any, PruneReport]],
    epochs: tuple[int, int],
    sparse_learning_rate: float,
) -> tuple[Any, SlimmingPass]:
    """Trains under the penalty, cuts and fine-tunes; returns the smaller model."""
    layers = callback.layers
    histograms = {"before": gamma_histogram(model, layers=layers)}
    trainer.run(
        model,
        epochs[0],
        callbacks=[callback],
        keep="last",
        optimizer=phases.sgd,
        learning_rate=sparse_learning_rate,
    )
    histograms["sparse"] = gamma_histogram(model, layers=layers)
    smaller, report = cut(model)
    logs = trainer.run(smaller, epochs[1]).history
    histograms["after"] = gamma_histogram(smaller, layers=layers)
    return smaller, SlimmingPass(
        callback.history, histograms, report, logs, callback.skipped
    )


def _cut(
    rounds: Rounds, number: int, budget: budget_lib.Budget, fold: str, model: Any
) -> tuple[Any, PruneReport]:
    _, limit = _target(rounds, number, _analyze(model, budget))
    return prune_channels(model, criterion=_SCORING, budget=limit, fold=fold)


def _target(
    rounds: Rounds, number: int, channels: channels_lib.Channels
) -> tuple[scores_lib.Scores, budget_lib.Budget]:
    """Returns how the channels score now, and what this pass may leave."""
    scores = scores_lib.score_channels(channels, _SCORING)
    return scores, rounds.budget(number, channels, scores.groups)


def _share_to_go(rounds: Rounds, number: int, channels: channels_lib.Channels) -> float:
    return phases.share_to_go(channels, *_target(rounds, number, channels))


def _enough_strength(scale: float, total_rate: float) -> float:
    """Returns the strength that pulls an idle scale beyond zero."""
    # Momentum adds up to 1 / (1 - momentum) steps in the same direction.
    return _TRAVEL * scale * (1.0 - phases.MOMENTUM) / total_rate


def _budget(
    pruning_ratio: float | None, budget: budget_lib.Budget | None
) -> budget_lib.Budget:
    if (pruning_ratio is None) == (budget is None):
        raise errors.ConfigError(
            "Pass either pruning_ratio (0.6 removes 60% of all channels) or a Budget."
        )
    return budget or budget_lib.Budget(pruning_ratio=pruning_ratio, scope="global")


def _analyze(model: Any, budget: budget_lib.Budget) -> channels_lib.Channels:
    return budget_lib.analyze(graph_keras.read(model), budget)
