"""Bayesian compression: training with random scales, the cut, and fine-tuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras

from tfslim import checks, errors, fields
from tfslim.bayesian import variational
from tfslim.bayesian.places import NoisyGraph
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import loop, sparse_training
from tfslim.pruning import scores as scores_lib
from tfslim.pruning.prune import PruneReport, cut_and_prove, whole_groups
from tfslim.training import FitOptions, seeds
from tfslim.training.training import Training

# How many times the way from the start to the threshold an idle channel could go.
_TRAVEL = 3.0
_UNSCORED = "has no scale of its own"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BayesianStep(loop.Step):
    """The training with random scales, the cut and the training after it.

    Attributes:
        log_alpha: group of channels -> log(variance / mean^2) of each channel's scale,
            above 0 where there is more noise than signal.
        sparse_training: Keras' logs of the first training, one value per epoch.
        cut: what was removed.
        fine_tuning: Keras' logs of the training after the cut.
    """

    log_alpha: Mapping[str, ir.Array]
    sparse_training: Mapping[str, list[float]]
    cut: PruneReport
    fine_tuning: Mapping[str, list[float]]

    def lines(self) -> Iterator[str]:
        """Yields a line per group of channels."""
        yield from super().lines()
        for name, values in self.log_alpha.items():
            kept = self.cut.keep.get(name, np.ones(len(values), bool))
            yield (
                f"  {name}: {int((~kept).sum())} of {len(values)} channels removed, "
                f"log alpha {values.min():.1f} to {values.max():.1f}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BayesianOptions(sparse_training.TwoTrainings):
    """Options of Bayesian compression beside those of the training.

    The first training runs with Adam: the divergence pulls at a scale by 1 / examples,
    which it brings to the size of the learning rate. How fast the variances may grow
    follows from the length of that training.

    Attributes:
        strength: what the divergence is multiplied by; 1 is the evidence lower bound.
        threshold: without a budget, channels go whose log alpha is at least this; at 0
            the noise of the scale is as large as its mean.
        divisor: widths are rounded up to a multiple of it; a budget has its own.
    """

    strength: float = fields.field(1.0, above=0)
    threshold: float = 0.0
    divisor: int = fields.field(16, least=1)
    sparse_learning_rate: float = fields.field(1e-3, above=0)


@checks.by_name
@seeds.kept()
def bayesian_compression(
    model: Any,
    train: Any,
    *,
    validation: Any = None,
    task: Any = "classification",
    budget: budget_lib.Budget | None = None,
    how: BayesianOptions | None = None,
    options: FitOptions | None = None,
    **overrides: Any,
) -> tuple[Any, loop.LoopReport]:
    """Trains with a random scale on each channel, cuts what is noise, and fine-tunes.

    Channels that are added up along a residual trunk share one scale and go together.
    The model itself is not changed.

    Source: Louizos, Ullrich and Welling, "Bayesian Compression for Deep Learning",
    NeurIPS 2017, https://arxiv.org/abs/1705.08665: variational dropout of groups under
    the normal-Jeffreys prior. `tfslim.bayesian.variational` says what differs.

    Args:
        model: a trained functional or Sequential model of tf_keras or Keras 3.
        train: as for `tfslim.fit`; or a `Training`, which also has the validation data,
            the task and the options.
        validation: as for `tfslim.fit`; chooses the best epoch of the fine-tuning.
        task: what the model is for, as for `tfslim.fit`.
        budget: a target: the channels with the largest alpha go until it is met. None
            takes what is above `threshold`.
        how: options of the method; None takes the defaults.
        options: how to train; `epochs` is not used, `optimizer` only for fine-tuning.
            With `backup_dir`, the same call resumes from the last epoch after a kill.
        **overrides: fields of `BayesianOptions`, such as `strength`, or of `FitOptions`
            that replace those of `how` and `options`.

    Returns:
        A smaller plain model of the same Keras, not compiled, and the report.

    Raises:
        ConfigError: an option, no channels to scale, or a limit that cannot be met.
        GraphError: the model cannot be read or rebuilt.
        VerificationError: the cut model differs from the masked one.

    Example:
        smaller, report = bayesian_compression(
            model, data["train"], data["validation"], task="classification"
        )
    """
    given = Training.of(train, validation, task, options)
    own, training = given.split(BayesianOptions, how, overrides)
    return _Bayesian(model, training, own, budget).run(model)


class _Bayesian(sparse_training.SparseMethod):
    name = "bayesian_compression"
    step_type = BayesianStep

    def __init__(self, model: Any, *job: Any):
        super().__init__(model, *job)
        channels = self._channels(graph_keras.read(model))
        if not channels.groups:
            raise errors.ConfigError(
                f"No channels of '{getattr(model, 'name', 'the model')}' can be "
                "removed, so there is nothing to scale: "
                + "; ".join(f"{name} {why}" for name, why in channels.skipped.items())
            )

    def _channels(self, graph: ir.Graph) -> channels_lib.Channels:
        if self.budget is None:
            return channels_lib.analyze(graph)
        return budget_lib.analyze(graph, self.budget)

    def cut(self, model: Any, steps: Sequence[Any]) -> loop.Cut | None:
        """Trains with random scales and cuts what is noise, once."""
        if steps:
            return None
        channels = self._channels(graph_keras.read(model))
        gain = _TRAVEL * (self.how.threshold - variational.START) / self.total_rate()
        noisy = NoisyGraph(channels, gain=max(gain, 1.0))
        trained = graph_keras.write(noisy.graph, "tf_keras")
        examples = self.training.num_steps() * self.training.options.batch_size
        logs = self.train_sparse(
            trained,
            tf_keras.optimizers.Adam,
            callbacks=[variational.Divergence(self.how.strength / examples)],
        ).history
        graph, log_alpha = noisy.take_out(graph_keras.read(trained))
        channels = dataclasses.replace(channels, graph=graph)
        by_group = {g.name: log_alpha[g.labels] for g in channels.groups}
        known = {n: a for n, a in by_group.items() if np.isfinite(a).all()}
        keep, whole = self._plan(channels, known)
        smaller, report = cut_and_prove(
            channels,
            keep,
            kind="tf_keras",
            skipped={**channels.skipped, **noisy.skipped, **whole},
            original=model,
        )
        figures = {
            "log_alpha": known,
            "sparse_training": logs,
            "cut": report,
            "error": report.error,
            "skipped": report.skipped,
        }
        return loop.Cut(model=smaller, figures=figures)

    def _plan(
        self, channels: channels_lib.Channels, log_alpha: Mapping[str, ir.Array]
    ) -> tuple[dict[str, channels_lib.Mask], dict[str, str]]:
        """Returns what stays, and the groups that stay whole with the reason."""
        budget = self.budget
        if budget is None:
            idle = {
                name: float((values >= self.how.threshold).mean())
                for name, values in log_alpha.items()
            }
            # A layer of noise alone keeps a channel.
            ratios = {name: min(share, 1.0 - 1e-9) for name, share in idle.items()}
            budget = budget_lib.Budget(
                pruning_ratio=0.0, ratios=ratios, divisor=self.how.divisor
            )
        unscored = {
            g.name: _UNSCORED for g in channels.groups if g.name not in log_alpha
        }
        scores = scores_lib.Scores({n: -a for n, a in log_alpha.items()}, unscored)
        keep = budget_lib.plan(channels, scores, budget=budget)
        return keep, {**unscored, **whole_groups(keep, budget)}
