"""What a model says of how its pixels are scaled."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import ops, preprocessing
from tfslim.loading import source as source_lib

# Operations that scale; before the first layer with weights they do it to pixels.
_SCALES = ops.keras("scaling") | {"TrueDivide", "Divide", "Subtract"}
_SCALING_FUNCTIONS = {"truediv", "divide", "subtract", "sub"}


def find_preprocessing(
    source: str | Path, model: Any
) -> tuple[preprocessing.Preprocessing, str] | None:
    """Returns how images become the model's input and where that is known from.

    Args:
        source: what `load_model` opened.
        model: what it returned; it has one input.

    Returns:
        None where nothing says it.
    """
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3:
        return preprocessing.preset("raw", shape), "the input is no image"
    written = _beside(Path(source), shape)
    if written is not None:
        return written, "as in the result beside it"
    application = source_lib.as_application(str(source))
    if application is not None:
        preset = _of_application(*application)
        if preset is None:
            return None
        return preprocessing.preset(preset, shape), "as in keras.applications"
    if any(_scales(layer) for layer in _before_weights(model)):
        return preprocessing.preset("raw", shape), "the model scales pixels itself"
    return None


def _beside(path: Path, shape: tuple[int, ...]) -> preprocessing.Preprocessing | None:
    """Reads what an export of tfslim wrote beside its `model.keras`."""
    result = path.with_name("result.json")
    if path.name != "model.keras" or not result.is_file():
        return None
    try:
        written = json.loads(result.read_text(encoding="utf-8"))
        found = preprocessing.Preprocessing.from_json(written["model"]["preprocessing"])
    except (ValueError, KeyError, TypeError):  # Another program's result.json.
        return None
    return found if found.input_shape == shape else None


def _of_application(package: str, name: str) -> str | None:
    """Finds the preset that does what the application's `preprocess_input` does."""
    function = getattr(importlib.import_module(f"{package}.applications"), name)
    module = importlib.import_module(function.__module__)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3)).astype(np.float32)
    wanted = np.asarray(module.preprocess_input(pixels.copy()))
    for preset in preprocessing.PRESETS:
        got = preprocessing.preset(preset, (2, 2, 3)).apply(pixels)
        if np.allclose(got, wanted, atol=1e-3):
            return preset
    return None


def _before_weights(model: Any) -> Iterator[Any]:
    """Yields the operations of a model, nested ones too, up to the first weights."""
    for layer in getattr(model, "operations", None) or model.layers:
        if hasattr(layer, "layers"):
            yield from _before_weights(layer)
        else:
            yield layer
        if getattr(layer, "weights", None) and not _scales(layer):
            return


def _scales(layer: Any) -> bool:
    kind = type(layer).__name__
    if kind == "TFOpLambda":
        return layer.get_config()["function"].split(".")[-1] in _SCALING_FUNCTIONS
    return kind in _SCALES
