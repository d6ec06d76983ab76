"""Zeros, clusters and 8-bit weights by training: TF-MOT's methods in one call."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfslim import errors, registry, sparsity, tasks, training
from tfslim.training import inputs, replicas
from tfslim.training import training as fitting
from tfslim.training.job import ResumableJob

# Method -> its stages, each of which is trained. Zeros and clusters that an earlier
# stage made are kept by the later ones.
METHODS = {
    "magnitude": ("magnitude",),
    "2:4": ("2:4",),
    "block": ("block",),
    "xnnpack": ("xnnpack",),
    "cluster": ("cluster",),
    "qat": ("quantize",),
    "pqat": ("magnitude", "quantize"),
    "cqat": ("cluster", "quantize"),
    "pcqat": ("magnitude", "cluster", "quantize"),
}
# Stage -> its context, and the options that it has beside target and schedule.
_SCHEDULED: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "magnitude": (sparsity.prune_magnitude, ()),
    "block": (sparsity.prune_blocks, ("block",)),
    "xnnpack": (sparsity.prune_for_xnnpack, ("symmetric_padding",)),
}
# Trains a model, given the callbacks that its `fit` needs.
TrainFn = Callable[[Any, list[Any]], Any]


@dataclasses.dataclass(frozen=True)
class SparsifyResult:
    """A model after a method of TF-MOT.

    Attributes:
        model: a plain model of the Keras that was passed in; after quantization a
            tf_keras model with fake quantization, for `tfslim.convert_quantized`.
        is_quantized: whether `model` has fake quantization.
        reports: what was done and skipped, one report a stage.
        trainings: results of `tfslim.fit`, one a stage; none with a `train_fn`.
    """

    model: Any
    is_quantized: bool
    reports: tuple[sparsity.SparsityReport, ...]
    trainings: tuple[training.TrainingResult, ...]

    def __str__(self) -> str:
        """Returns the reports, one after another."""
        return "\n".join(map(str, self.reports))


def sparsify(
    model: Any,
    train: Any = None,
    validation: Any = None,
    *,
    method: str = "magnitude",
    task: str | tasks.Task = "classification",
    train_fn: TrainFn | None = None,
    steps: int | None = None,
    target: float = 0.8,
    schedule: str = "polynomial",
    block: tuple[int, int] = (1, 4),
    clusters: int = 16,
    keep: str = "nothing",
    symmetric_padding: bool = False,
    ignore: str | Iterable[str] = (),
    options: training.FitOptions | None = None,
    **overrides: Any,
) -> SparsifyResult:
    """Makes weights zero, few or 8-bit while the model trains on.

    Every stage of the method trains for `epochs`. Sparsity rises during the first half
    of them, and only epochs at full sparsity are candidates for the best one.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3, trained;
            not changed.
        train: training data as `tfslim.fit` takes it.
        validation: validation data as `tfslim.fit` takes it.
        method: one of `METHODS`, or "m:n" for other numbers than 2:4.
        task: what the model is for, as for `tfslim.fit`.
        train_fn: trains instead of `train`: called with a tf_keras model, not
            compiled, and the callbacks that its `fit` needs.
        steps: with `train_fn`: training steps within which sparsity rises.
        target: share of zeros; for "magnitude", "block", "xnnpack", "pqat", "pcqat".
        schedule: how sparsity rises: "polynomial" or "constant".
        block: (inputs, outputs) of a block.
        clusters: different values in each kernel.
        keep: what an earlier call made of the kernels, for "cluster" and "qat" to
            keep: "nothing", "zeros", "clusters" or "both".
        symmetric_padding: for "xnnpack"; see `sparsity.prune_for_xnnpack`.
        ignore: names of layers, or patterns, or one of them, to leave alone.
        options: how to train; None takes the defaults. With `backup_dir`, the same
            call after a kill goes on from the last epoch; stages that a `train_fn`
            has trained are not trained again.
        **overrides: fields of `FitOptions` that replace those of `options`.

    Raises:
        ConfigError: an option is wrong, or no layer can be treated.
        GraphError: the model cannot be read.

    Example:
        >>> pruned = sparsify(model, (x, y), method="magnitude", target=0.9).model
    """
    stages = _stages(method)
    if (train is None) == (train_fn is None):
        raise errors.ConfigError("Pass either training data or a train_fn.")
    if train_fn is not None and steps is None and not {*stages}.isdisjoint(_SCHEDULED):
        raise errors.ConfigError(
            f"method='{method}' with a train_fn needs steps: the number of training "
            "steps within which sparsity rises."
        )
    given = {
        "target": target,
        "schedule": schedule,
        "block": block,
        "clusters": clusters,
        "keep": keep,
        "symmetric_padding": symmetric_padding,
        "ignore": (ignore,) if isinstance(ignore, str) else tuple(ignore),
    }
    _check_later_stages(model, stages, given)
    how = fitting.Training(
        train=train,
        validation=validation,
        task=tasks.resolve(task, model),
        options=training.with_overrides(options, overrides),
    )
    backup = ResumableJob(how.options, model, {"method": f"sparsify {method}", **given})
    trainer = _Trainer(how, train_fn, steps, backup)
    reports = []
    for number, stage in enumerate(stages):
        context = _context(stage, stages[:number], given, trainer)
        with trainer.scope(), context(model) as active:
            trainer.fit(active, rises=stage in _SCHEDULED and schedule == "polynomial")
        model = active.result
        reports.append(active.report)
    backup.finish()
    return SparsifyResult(
        model, stages[-1] == "quantize", tuple(reports), tuple(trainer.results)
    )


def _context(
    stage: str, before: tuple[str, ...], given: Mapping[str, Any], trainer: _Trainer
) -> Callable[[Any], contextlib.AbstractContextManager[sparsity.Training]]:
    """Returns what wraps a model for a stage, given those before it."""
    ignore = given["ignore"]
    if stage in _SCHEDULED:
        make, names = _SCHEDULED[stage]
        chosen = {name: given[name] for name in ("target", "schedule", *names)}
        steps = trainer.rising_steps()
        return functools.partial(make, steps=steps, ignore=ignore, **chosen)
    if stage == "cluster":
        return functools.partial(sparsity.cluster_kernels, **_clustering(before, given))
    if stage == "quantize":
        keep = _kept(before) if before else given["keep"]
        return functools.partial(sparsity.quantize_aware, keep=keep, ignore=ignore)
    m, n = map(int, stage.split(":"))
    return functools.partial(sparsity.prune_m_by_n, m=m, n=n, ignore=ignore)


def _clustering(before: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "clusters": given["clusters"],
        "keep_zeros": bool(before) or given["keep"] in ("zeros", "both"),
        "ignore": given["ignore"],
    }


def _check_later_stages(
    model: Any, stages: tuple[str, ...], given: Mapping[str, Any]
) -> None:
    """Checks, before anything is trained, what the first stage does not look at."""
    if given["keep"] not in sparsity.KEEP:
        raise registry.unknown_name("keep", given["keep"], sparsity.KEEP)
    if "cluster" in stages:
        before = stages[: stages.index("cluster")]
        sparsity.check_clusters(model, **_clustering(before, given))


def _stages(method: str) -> tuple[str, ...]:
    if method in METHODS:
        return METHODS[method]
    if re.fullmatch(r"\d+:\d+", method):
        return (method,)
    raise registry.unknown_name("method", method, METHODS)


def _kept(before: tuple[str, ...]) -> str:
    if "cluster" not in before:
        return "zeros" if before else "nothing"
    return "both" if len(before) > 1 else "clusters"


class _Trainer:
    """Trains each stage the same way."""

    def __init__(
        self,
        how: fitting.Training,
        train_fn: TrainFn | None,
        steps: int | None,
        backup: ResumableJob,
    ):
        if how.options.mixed_precision:
            raise errors.ConfigError(
                "mixed_precision trains a copy of the model, which would lose what "
                "TF-MOT wrapped. Train in float32."
            )
        self._how = how
        self._train_fn = train_fn
        self._steps = steps
        self._backup = backup
        self._strategy = replicas.resolve_strategy(how.options.strategy)
        self.results: list[training.TrainingResult] = []

    @property
    def _rising_epochs(self) -> int:
        return max(1, self._how.options.epochs // 2)

    def rising_steps(self) -> int:
        """Returns the steps within which sparsity rises, and masks change."""
        if self._train_fn is not None:
            return self._steps or 1
        options = self._how.options
        task = tasks.resolve(self._how.task)
        steps = inputs.num_steps(self._how.train, task, options)
        if options.epochs == 1:
            return max(1, steps // 2)
        return steps * self._rising_epochs

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the strategy's scope: a wrapped model cannot be copied into one."""
        scope: contextlib.AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def fit(self, active: sparsity.Training, *, rises: bool) -> None:
        """Trains the wrapped model."""
        if self._train_fn is not None:
            active.model.set_weights(
                self._backup.value(lambda: self._trained_by_user(active))
            )
            return
        result = self._backup.train(
            active.model,
            self._how,
            active.callbacks,
            strategy=self._strategy,
            best_from_epoch=self._rising_epochs - 1 if rises else 0,
        )
        self.results.append(result)

    def _trained_by_user(self, active: sparsity.Training) -> list[np.ndarray]:
        if self._train_fn is not None:
            self._train_fn(active.model, active.callbacks)
        weights: list[np.ndarray] = active.model.get_weights()
        return weights
