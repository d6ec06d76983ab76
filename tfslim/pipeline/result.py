"""The content of `result.json`."""

from __future__ import annotations

from typing import Any

import ml_collections

from tfslim.benchmark import environment
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import making, pixels
from tfslim.pipeline.job import Job


def build_result(
    job: Job,
    config: ml_collections.ConfigDict,
    *,
    made: making.MadeOfKeras,
    trained: dict[str, Any] | None,
    original: dict[str, Any] | None,
    steps: list[dict[str, Any]],
) -> dict[str, Any]:
    """Gathers what every step found into plain JSON data."""
    counts = count.count(graph_keras.read(job.model))
    saved_by = made.saved_by
    prepare = of_files = job.preprocessing
    if prepare and pixels.takes_pixels(prepare, config):
        of_files = prepare.plain
    return {
        **made.to_json(config, job.task),
        "model": {
            "name": job.name,
            "input_shape": [list(tensor.shape[1:]) for tensor in job.model.inputs],
            "params": counts.params,
            "trainable_params": counts.trainable_params,
            "macs": None if counts.uncounted else counts.macs,
            "preprocessing": prepare and prepare.to_json(),
            "file_preprocessing": of_files and of_files.to_json(),
            "keras": f"{saved_by} {environment.versions(saved_by).get(saved_by, '')}",
        },
        "data": job.feed.facts,
        "training": trained,
        "slimming": steps,
        "keras_metric": made.keras_metric,
        "original": original,
        "skipped": [*job.feed.skipped, *made.notes],
        "versions": environment.versions(
            "tensorflow", "tf_keras", "keras", "ai-edge-litert", "litert-quantizer"
        ),
    }
