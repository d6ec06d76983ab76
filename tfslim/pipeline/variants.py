"""The files of an export: the Keras model, the float file and what comes of it."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

import tfslim
from tfslim import convert, errors, quantization
from tfslim.graph import keras as graph_keras
from tfslim.graph import keras_probe
from tfslim.pipeline import check
from tfslim.pipeline import job as job_lib


def save_keras(model: Any, package: Any, path: Path) -> tuple[str, list[str]]:
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
    building = path.with_name(f".{path.stem}.building.keras")
    try:
        plain.save(building)
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)
    return package, notes


def convert_float(
    job: job_lib.Job, config: ml_collections.ConfigDict, metadata: Mapping[str, Any]
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
    notes = []
    if found.unmapped:
        notes.append(f"Layers not found in the file: {', '.join(found.unmapped)}.")
    return quantization.put_layers(done.tflite, found), notes


def _metadata(job: job_lib.Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "tfslim": tfslim.__version__,
        "task": job.task.name,
        "labels": job.feed.facts["class_names"],
        "preprocessing": job.preprocessing and job.preprocessing.to_json(),
    }


def convert_quantization_aware(
    job: job_lib.Job, config: ml_collections.ConfigDict, checker: check.Checker
) -> tuple[dict[str, Any], bytes]:
    """Converts what learned with 8 bits; its ranges are learned, not calibrated."""
    done = convert.convert_quantized(
        job.quantization_aware, io=config.quantization.io, metadata=_metadata(job)
    )
    name = "int8_qat"
    row: dict[str, Any] = {
        "name": name,
        "file": f"{name}.tflite",
        "calibration": None,
        "scheme": "static_int8",
        "size_bytes": len(done.tflite),
        "gzip_bytes": len(gzip.compress(done.tflite, 6, mtime=0)),
        "kept_float": [],
    }
    return row | checker.check(name, done.tflite), done.tflite


def quantize(
    job: job_lib.Job,
    recipe: quantization.Recipe,
    float_file: bytes,
    options: quantization.Options,
    ranges: Any,
) -> quantization.AccurateResult:
    """Makes one variant of the float file; `options.io` is of static INT8 ones."""
    if recipe.scheme != "static_int8":
        options = dataclasses.replace(options, io="float")
    return quantization.quantize_accurately(
        float_file,
        recipe,
        samples=job.feed.calibration,
        options=options,
        # Ranges kept from an earlier run are those of 8-bit activations.
        ranges=ranges if recipe.scheme == "static_int8" else None,
    )


def describe(
    recipe: quantization.Recipe, accurate: quantization.AccurateResult
) -> dict[str, Any]:
    """Returns what the result says of a variant before it is checked and timed."""
    done = accurate.quantized
    calibrated = done.calibration
    return {
        "name": recipe.name,
        "file": f"{recipe.name}.tflite",
        "calibration": calibrated
        and {
            "method": calibrated.method,
            "num_samples": calibrated.num_samples,
            "trials": [dataclasses.asdict(trial) for trial in calibrated.trials],
            "steps": accurate.steps,
            "taken": accurate.taken,
        },
        "scheme": recipe.scheme,
        "size_bytes": len(done.tflite),
        "gzip_bytes": len(gzip.compress(done.tflite, 6, mtime=0)),
        "kept_float": [dataclasses.asdict(kept) for kept in done.kept_float],
    }
