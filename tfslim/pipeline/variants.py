"""The files of an export: the Keras model, the float file and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

import tfslim
from tfslim import convert, errors, ops, quantization
from tfslim.graph import count, keras_probe
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import folder as folder_lib
from tfslim.pipeline import job as job_lib
from tfslim.pipeline.maker import sizes


def save_keras(
    model: Any, package: Any, *, folder: folder_lib.Folder
) -> tuple[str, list[str]]:
    """Writes model.keras, as `save_keras_to` does."""
    with folder.writing(folder_lib.MODEL) as path:
        return save_keras_to(model, package, path=path)


def save_keras_to(model: Any, package: Any, *, path: Path) -> tuple[str, list[str]]:
    """Writes the model, without optimizer state, in the wanted Keras's own format.

    Returns:
        The Keras that opens it, and what the user should know about it.
    """
    notes = []
    own = graph_keras.keras_of(model)
    try:
        plain = graph_keras.write(graph_keras.read(model), package)
    except errors.GraphError as error:
        notes.append(f"model.keras is in the format of {own}, not {package}: {error}")
        plain, package = model, own
    plain.save(path)
    return package, notes


def convert_float(
    job: job_lib.Job, config: ml_collections.ConfigDict, *, metadata: Mapping[str, Any]
) -> tuple[bytes, list[str]]:
    """Returns the float `.tflite` that all recipes start from, and notes.

    It knows which Keras layer each of its ops comes from, so that options of layers
    reach them whatever the converter called their tensors.
    """
    done = convert.convert_model(
        job.model,
        allow_flex=config.convert.allow_flex,
        metadata={**_metadata(job), **metadata},
    )
    try:
        graph, run = keras_probe.probe(job.model)
        found = quantization.map_layers(done.tflite, graph, run)
    except errors.GraphError as error:
        return done.tflite, [f"Layers are known by the names in the file only: {error}"]
    # What does nothing in inference, such as dropout, leaves no op.
    idle = ops.keras("idle")
    missing = [name for name in found.unmapped if graph.layers[name].op not in idle]
    notes = [f"Layers not found in the file: {', '.join(missing)}."] if missing else []
    return quantization.put_layers(done.tflite, found), notes


def _metadata(job: job_lib.Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "tfslim": tfslim.__version__,
        "task": job.task.name,
        "labels": job.feed.facts["class_names"],
        "preprocessing": job.preprocessing and job.preprocessing.to_json(),
        **({} if job.tables is None else {"tables": job.tables.entry}),
    }


def convert_quantization_aware(
    job: job_lib.Job, config: ml_collections.ConfigDict
) -> tuple[dict[str, Any], bytes]:
    """Converts what learned with 8 bits; its ranges are learned, not calibrated."""
    done = convert.convert_quantized(
        job.quantization_aware,
        target=config.quantization.target,
        io=config.quantization.io,
        metadata=_metadata(job),
    )
    name = folder_lib.QUANTIZATION_AWARE
    row: dict[str, Any] = {
        "name": name,
        "file": f"{name}.tflite",
        "calibration": None,
        "scheme": "static_int8",
        **sizes(done.tflite),
        "kept_float": [],
    }
    return row, done.tflite


def costs(model: Any) -> dict[str, int | None]:
    """Returns a Keras model's params and MACs, None where some cannot be counted."""
    counts = count.count(graph_keras.read(model))
    macs = None if counts.uncounted else counts.macs
    return {"params": counts.params, "macs": macs}
