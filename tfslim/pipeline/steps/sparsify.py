"""Steps that train with TF-MOT: `sparsify`, `cluster` and `quantize`."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfslim import checks, sparsity
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base
from tfslim.sparsity import sparsify as sparsify_lib

_METHODS = ("magnitude", "2:4", "block", "xnnpack")


def plan_sparsity(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `sparsify`."""
    checks.choice("sparsity method", section.method, known=_METHODS)
    title = f"sparsifying by {section.method}"
    if section.method != "2:4":
        title += f" to {section.sparsity:.0%} zeros"
    options = {"method": section.method, "target": section.sparsity}
    return _plan("sparsify", title, section=section, config=config, chosen=options)


def plan_clusters(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `cluster`."""
    keep = _made(config, "cluster")
    least = sparsity.least_clusters(keep_zeros=keep == "zeros")
    checks.whole("config.cluster.num_clusters", section.num_clusters, low=least)
    title = f"clustering weights to {section.num_clusters} values"
    options = {"method": "cluster", "clusters": section.num_clusters, "keep": keep}
    return _plan("cluster", title, section=section, config=config, chosen=options)


def plan_quantization(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `quantize`."""
    keep = section.keep
    if keep == "auto":
        keep = _made(config, "quantize")
    title = "quantization-aware training"
    if keep != "nothing":
        title += f", keeping {keep}"
    return _plan(
        "quantize",
        title,
        section=section,
        config=config,
        chosen={"method": "qat", "keep": keep},
    )


def _plan(
    name: str,
    title: str,
    *,
    section: base.Config,
    config: base.Config,
    chosen: dict[str, Any],
) -> base.Step:
    checks.whole(f"config.{name}.epochs", section.epochs)
    # TF-MOT's wrapped models cannot be copied into another precision.
    options = dataclasses.replace(
        base.fit_options(config, section), mixed_precision=False
    )

    def apply(job: Job) -> tuple[Any, base.Outcome]:
        # A quantized model becomes a file of its own; the float model stays.
        model, report = sparsify_lib.sparsify(
            job.model,
            job.feed.train,
            validation=job.feed.validation,
            task=job.task,
            options=job.backup.part(options, job.model),
            **chosen,
        )
        notes = report.notes
        if report.is_quantized:
            job.quantization_aware, model = model, job.model
            notes = ("It becomes int8_qat.tflite; the other files have none of it.",)
        return model, base.Outcome(
            layers=tuple(str(report).splitlines()),
            skipped=dict(report.skipped),
            notes=notes,
        )

    return base.Step(title=title, apply=apply, trains=f"{options.epochs} epochs")


def _made(config: base.Config, before: str) -> str:
    """Returns what the steps before the first one called so make of the kernels."""
    names = [text.partition(":")[0] for text in config.steps]
    done = {*names[: names.index(before)]} & {"cluster", "sparsify"}
    if len(done) == 2:
        return "both"
    return {"sparsify": "zeros", "cluster": "clusters"}.get("".join(done), "nothing")
