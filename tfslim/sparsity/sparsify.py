"""Zeros, clusters and 8-bit weights by training: TF-MOT's methods in one call."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from tfslim import checks, errors, fields, registry, sparsity, tasks
from tfslim.training import FitOptions, TrainingResult, replicas, seeds
from tfslim.training.job import ResumableJob
from tfslim.training.training import Training

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
# Stage -> its context, and the options that it has.
_STAGES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "magnitude": (sparsity.prune_magnitude, ("target", "schedule")),
    "block": (sparsity.prune_blocks, ("target", "schedule", "block")),
    "xnnpack": (
        sparsity.prune_for_xnnpack,
        ("target", "schedule", "symmetric_padding"),
    ),
    "cluster": (sparsity.cluster_kernels, ("clusters",)),
    "quantize": (sparsity.quantize_aware, ()),
}
# Those in which sparsity rises.
_SCHEDULED = {name for name, (_, options) in _STAGES.items() if "target" in options}
# Trains a model, given the callbacks that its `fit` needs.
TrainFn = Callable[[Any, list[Any]], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparsifyOptions(fields.Checked):
    """Options of TF-MOT's methods beside those of the training.

    Attributes:
        target: share of zeros; for "magnitude", "block", "xnnpack", "pqat", "pcqat".
        schedule: how sparsity rises: "polynomial" or "constant".
        steps: with `train_fn`: training steps within which sparsity rises.
        block: (inputs, outputs) of a block.
        clusters: different values in each kernel.
        keep: what an earlier call made of the kernels, for "cluster" and "qat" to
            keep: "nothing", "zeros", "clusters" or "both".
        symmetric_padding: for "xnnpack"; see `sparsity.prune_for_xnnpack`.
        ignore: names of layers, or patterns, or one of them, to skip.
    """

    target: float = 0.8
    schedule: str = "polynomial"
    steps: int | None = None
    block: tuple[int, int] = (1, 4)
    clusters: int = 16
    keep: str = fields.field("nothing", choices=sparsity.KEEP)
    symmetric_padding: bool = False
    ignore: str | Iterable[str] = ()

    def __post_init__(self) -> None:
        """Checks what no method looks at before its training."""
        super().__post_init__()
        if not isinstance(self.ignore, str):
            object.__setattr__(self, "ignore", tuple(self.ignore))


@dataclasses.dataclass(frozen=True)
class SparsifyReport:
    """What a method of TF-MOT did.

    Attributes:
        stages: what was done and skipped, one report a stage.
        trainings: results of `tfslim.fit`, one a stage; none with a `train_fn`.
        is_quantized: whether the model has fake quantization.
    """

    stages: tuple[sparsity.SparsityReport, ...]
    trainings: tuple[TrainingResult, ...]
    is_quantized: bool

    @property
    def skipped(self) -> dict[str, str]:
        """Layer with a kernel -> why a stage did not treat it."""
        return {n: why for stage in self.stages for n, why in stage.skipped.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What else the user should know."""
        return tuple(note for stage in self.stages for note in stage.notes)

    def __str__(self) -> str:
        """Returns the reports of the stages, one after another."""
        return "\n".join(map(str, self.stages))


class _ModelAndReport(NamedTuple):
    model: Any
    report: SparsifyReport


class SparsifyResult(_ModelAndReport):
    """A model after a method of TF-MOT, and the report.

    Attributes:
        model: a plain model of the Keras that was passed in; after quantization a
            tf_keras model with fake quantization, for `tfslim.convert_quantized`.
        report: what was done.
    """

    is_quantized = checks.renamed("is_quantized", "report.is_quantized")
    reports = checks.renamed("reports", "report.stages")
    trainings = checks.renamed("trainings", "report.trainings")


@checks.by_name
@seeds.kept()
def sparsify(
    model: Any,
    train: Any = None,
    *,
    validation: Any = None,
    method: str = "magnitude",
    task: str | tasks.Task = "classification",
    train_fn: TrainFn | None = None,
    how: SparsifyOptions | None = None,
    options: FitOptions | None = None,
    **overrides: Any,
) -> SparsifyResult:
    """Makes weights zero, few or 8-bit while the model trains on.

    Every stage of the method trains for `epochs`. Sparsity rises during the first half
    of them, and only epochs at full sparsity are candidates for the best one.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3, trained;
            not changed.
        train: training data as `tfslim.fit` takes it; or a `Training`, which also has
            the validation data, the task and the options.
        validation: validation data as `tfslim.fit` takes it.
        method: one of `METHODS`, or "m:n" for other numbers than 2:4.
        task: what the model is for, as for `tfslim.fit`.
        train_fn: trains instead of `train`: called with a tf_keras model, not
            compiled, and the callbacks that its `fit` needs.
        how: options of the method; None takes the defaults.
        options: how to train; None takes the defaults. With `backup_dir`, the same
            call resumes from the last epoch after a kill; stages that a `train_fn`
            has trained are not trained again.
        **overrides: fields of `SparsifyOptions`, such as `target`, or of `FitOptions`
            that replace those of `how` and `options`.

    Returns:
        The model and the report.

    Raises:
        ConfigError: an option is wrong, or no layer can be treated.
        GraphError: the model cannot be read.

    Example:
        >>> pruned, _ = sparsify(model, (x, y), method="magnitude", target=0.9)
    """
    stages = _stages(method)
    given = Training.of(train, validation, task, options)
    own, training = given.split(SparsifyOptions, how, overrides)
    options = training.options
    if (train is None) == (train_fn is None):
        raise errors.ConfigError("Pass either training data or a train_fn.")
    is_theirs = train_fn is not None
    _check(
        model, method, stages=stages, how=own, options=options, has_train_fn=is_theirs
    )
    training = dataclasses.replace(training, task=tasks.resolve(training.task, model))
    description = {"method": f"sparsify {method}", **vars(own)}
    job = ResumableJob(options, model, description=description)
    if train_fn is None and not _SCHEDULED.isdisjoint(stages):
        own = dataclasses.replace(own, steps=_rising_steps(training, _rising(options)))
    model, reports, trainings = _run_stages(
        model, stages, how=own, training=training, train_fn=train_fn, job=job
    )
    job.finish()
    is_quantized = stages[-1] == "quantize"
    report = SparsifyReport(tuple(reports), tuple(trainings), is_quantized)
    return SparsifyResult(model, report)


def _rising(options: FitOptions) -> int:
    """Returns the epochs in which sparsity rises."""
    return max(1, options.epochs // 2)


def _run_stages(
    model: Any,
    stages: tuple[str, ...],
    *,
    how: SparsifyOptions,
    training: Training,
    train_fn: TrainFn | None,
    job: ResumableJob,
) -> tuple[Any, list[Any], list[TrainingResult]]:
    """Trains a model in each stage; returns it, and the report of each."""
    # A wrapped model cannot be copied into a strategy.
    strategy = replicas.resolve_strategy(training.options.strategy)
    reports, trainings = [], []
    for number, stage in enumerate(stages):
        context = _context(stage, stages[:number], how=how)
        with strategy.scope(), context(model) as active:
            if train_fn is not None:
                trained = functools.partial(_trained, active, train_fn)
                active.model.set_weights(job.value(trained))
            else:
                rises = stage in _SCHEDULED and how.schedule == "polynomial"
                result = job.train(
                    active.model,
                    training,
                    active.callbacks,
                    strategy=strategy,
                    best_from_epoch=_rising(training.options) - 1 if rises else 0,
                )
                trainings.append(result)
        model = active.result
        reports.append(active.report)
    return model, reports, trainings


def _check(
    model: Any,
    method: str,
    *,
    stages: tuple[str, ...],
    how: SparsifyOptions,
    options: FitOptions,
    has_train_fn: bool,
) -> None:
    """Refuses before the first training what would fail after it."""
    if has_train_fn and how.steps is None and not _SCHEDULED.isdisjoint(stages):
        raise errors.ConfigError(
            f"method='{method}' with a train_fn needs steps: the number of training "
            "steps within which sparsity rises."
        )
    if options.mixed_precision:
        raise errors.ConfigError(
            "mixed_precision trains a copy of the model, which would lose what TF-MOT "
            "wrapped. Train in float32."
        )
    if "cluster" in stages:
        before = stages[: stages.index("cluster")]
        sparsity.check_clusters(model, **_chosen("cluster", before, how=how))


def _trained(active: sparsity.Wrapped, train_fn: TrainFn) -> list[np.ndarray]:
    train_fn(active.model, active.callbacks)
    weights: list[np.ndarray] = active.model.get_weights()
    return weights


def _rising_steps(training: Training, rising_epochs: int) -> int:
    """Returns the steps within which sparsity rises, and masks change."""
    steps = training.num_steps()
    return max(1, steps // 2) if training.options.epochs == 1 else steps * rising_epochs


def _context(
    stage: str, before: tuple[str, ...], *, how: SparsifyOptions
) -> Callable[[Any], sparsity.Wrapped]:
    """Returns what wraps a model for a stage, given those before it."""
    if stage not in _STAGES:
        m, n = map(int, stage.split(":"))
        return functools.partial(sparsity.prune_m_by_n, m=m, n=n, ignore=how.ignore)
    return functools.partial(_STAGES[stage][0], **_chosen(stage, before, how=how))


def _chosen(
    stage: str, before: tuple[str, ...], *, how: SparsifyOptions
) -> dict[str, Any]:
    """Returns the options of a stage, given those before it."""
    chosen = {name: getattr(how, name) for name in (*_STAGES[stage][1], "ignore")}
    if stage in _SCHEDULED:
        chosen["steps"] = how.steps
    elif stage == "cluster":
        chosen["keep_zeros"] = bool(before) or how.keep in ("zeros", "both")
    else:
        made = {(): how.keep, ("magnitude",): "zeros", ("cluster",): "clusters"}
        chosen["keep"] = made.get(before, "both")
    return chosen


def _stages(method: str) -> tuple[str, ...]:
    if method in METHODS:
        return METHODS[method]
    if re.fullmatch(r"\d+:\d+", method):
        return (method,)
    raise registry.unknown_name("method", method, known=METHODS)
