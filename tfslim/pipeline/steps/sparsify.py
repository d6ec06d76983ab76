"""Steps that train with TF-MOT: `sparsify`, `cluster` and `quantize`."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections

from tfslim import errors, registry, sparsity, training
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base
from tfslim.sparsity import sparsify as sparsify_lib

_METHODS = ("magnitude", "2:4", "block", "xnnpack")
_KEEP = ("auto", "nothing", "zeros", "clusters", "both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sparsify:
    """One method of TF-MOT, which trains by itself."""

    title: str
    method: str
    chosen: dict[str, Any]
    options: training.FitOptions
    fine_tune: None = None

    @property
    def trains(self) -> str:
        """How the step trains by itself."""
        return f"{self.options.epochs} epochs"

    def apply(self, job: Job) -> tuple[Any, base.Outcome]:
        """Trains on the training data.

        A quantized model becomes a file of its own; the float model stays as it was.
        """
        base.require_data(job, self.title)
        done = sparsify_lib.sparsify(
            job.model,
            job.feed.train,
            job.feed.validation,
            method=self.method,
            task=job.task,
            options=job.backup.part(self.options, job.model),
            **self.chosen,
        )
        model, notes = done.model, tuple(n for r in done.reports for n in r.notes)
        if done.is_quantized:
            job.quantization_aware, model = done.model, job.model
            notes = ("It becomes int8_qat.tflite; the other files have none of it.",)
        return model, base.Outcome(
            layers=tuple(str(done).splitlines()),
            skipped={k: v for r in done.reports for k, v in r.skipped.items()},
            notes=notes,
        )


def plan_sparsity(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Sparsify:
    """Looks up the section `sparsify`."""
    if section.method not in _METHODS:
        raise registry.unknown_name("sparsity method", section.method, _METHODS)
    if not 0.0 < section.sparsity < 1.0:
        raise errors.ConfigError(
            f"config.sparsify.sparsity must be in (0, 1), got {section.sparsity}."
        )
    amount = "" if section.method == "2:4" else f" to {section.sparsity:.0%} zeros"
    return Sparsify(
        title=f"sparsifying by {section.method}{amount}",
        method=section.method,
        chosen={} if section.method == "2:4" else {"target": section.sparsity},
        options=_options(config, section, "sparsify"),
    )


def plan_clusters(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Sparsify:
    """Looks up the section `cluster`."""
    keep = _made(config, "cluster")
    least = sparsity.least_clusters(keep_zeros=keep == "zeros")
    if section.num_clusters < least:
        raise errors.ConfigError(
            f"config.cluster.num_clusters must be {least} or more, got "
            f"{section.num_clusters}."
        )
    return Sparsify(
        title=f"clustering weights to {section.num_clusters} values",
        method="cluster",
        chosen={"clusters": section.num_clusters, "keep": keep},
        options=_options(config, section, "cluster"),
    )


def plan_quantization(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Sparsify:
    """Looks up the section `quantize`."""
    keep = section.keep
    if keep not in _KEEP:
        raise registry.unknown_name("config.quantize.keep", keep, _KEEP)
    if keep == "auto":
        keep = _made(config, "quantize")
    return Sparsify(
        title="quantization-aware training"
        + ("" if keep == "nothing" else f", keeping {keep}"),
        method="qat",
        chosen={"keep": keep},
        options=_options(config, section, "quantize"),
    )


def _made(config: ml_collections.ConfigDict, before: str) -> str:
    """Returns what the steps before the first one called so make of the kernels."""
    names = [text.partition(":")[0] for text in config.steps]
    done = {*names[: names.index(before)]} & {"cluster", "sparsify"}
    if len(done) == 2:
        return "both"
    return {"sparsify": "zeros", "cluster": "clusters"}.get("".join(done), "nothing")


def _options(
    config: ml_collections.ConfigDict, section: ml_collections.ConfigDict, name: str
) -> training.FitOptions:
    if section.epochs < 1:
        raise errors.ConfigError(
            f"config.{name}.epochs must be 1 or more, got {section.epochs}."
        )
    options = base.fit_options(config, section, section.epochs)
    # TF-MOT's wrapped models cannot be copied into another precision.
    return dataclasses.replace(options, mixed_precision=False)
