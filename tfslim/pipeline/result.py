"""The content of `result.json`."""

from __future__ import annotations

import json
from typing import Any

import ml_collections

import tfslim
from tfslim.benchmark import environment
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import making
from tfslim.pipeline.job import Job

SCHEMA_VERSION = 1


def config_text(config: ml_collections.ConfigDict) -> str:
    """Returns the resolved config as JSON that `--config` reads again."""
    return config.to_json(indent=2) + "\n"


def build_result(
    job: Job,
    config: ml_collections.ConfigDict,
    made: making.Made,
    *,
    trained: dict[str, Any] | None,
    original: dict[str, Any] | None,
    steps: list[dict[str, Any]],
) -> dict[str, Any]:
    """Gathers what every step found into plain JSON data."""
    counts = count.count(graph_keras.read(job.model))
    saved_by = made.saved_by
    return {
        "schema_version": SCHEMA_VERSION,
        "tfslim": tfslim.__version__,
        "config": json.loads(config_text(config)),
        "model": {
            "name": job.name,
            "input_shape": [list(tensor.shape[1:]) for tensor in job.model.inputs],
            "params": counts.params,
            "trainable_params": counts.trainable_params,
            "macs": counts.macs,
            "preprocessing": job.preprocessing and job.preprocessing.to_json(),
            "keras": f"{saved_by} {environment.versions(saved_by).get(saved_by, '')}",
        },
        "task": {
            "name": job.task.name,
            "metric": job.task.metric_name,
            "agreement": job.task.agreement_name,
            "higher_is_better": job.task.higher_is_better,
        },
        "data": job.feed.facts,
        "training": trained,
        "slimming": steps,
        "keras_metric": made.keras_metric,
        "original": original,
        "variants": made.rows,
        "consumers": made.consumers,
        "failed": made.failed,
        "warnings": made.warnings,
        "skipped": [*job.feed.skipped, *made.notes],
        "versions": environment.versions(
            "tensorflow", "tf_keras", "keras", "ai-edge-litert", "litert-quantizer"
        ),
    }
