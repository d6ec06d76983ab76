"""MediaPipe Tasks' ImageClassifier: images in, named scores out.

It makes pixels the model's input by the standard metadata alone, so that what is wrong
there shows here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfslim import tflite
from tfslim.consumers import process
from tfslim.consumers.base import Consumer, ConsumerError, Outcome, folder
from tfslim.consumers.samples import Samples
from tfslim.tflite import standard_metadata

# Pixels that are not whole numbers by more come from no 8-bit image.
_ROUNDING = 0.05


def python() -> Path:
    """Returns the Python of MediaPipe's own environment."""
    return folder("mediapipe") / "bin" / "python"


def _missing() -> str:
    if python().exists():
        return ""
    return f"there is no environment in '{folder('mediapipe')}'"


def _run(content: bytes, inputs: Samples) -> Outcome:
    model = tflite.read(content)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ConsumerError("ImageClassifier takes models of one image.")
    if len(model.outputs) != 1:
        raise ConsumerError(
            f"ImageClassifier takes models of one output, this has "
            f"{len(model.outputs)}."
        )
    (values,) = inputs.values()
    about = standard_metadata.get(content)
    options = {
        "pixels": _pixels(model.inputs[0], np.asarray(values), about=about).tolist(),
        "classes": model.outputs[0].shape[-1],
    }
    ran = process.run_child(
        "mediapipe", content, inputs=inputs, python=[str(python())], options=options
    )
    if about is None or not about.mean:
        raise ConsumerError("The file does not say how pixels become its input.")
    # The scores are real numbers already.
    (name,) = model.output_names
    return ran.outcome(
        is_fully_accelerated=None,
        api="ImageClassifier",
        labels=[label for label in ran.facts["labels"] if label][:3],
        output=name,
    )


def _pixels(
    tensor: tflite.Tensor,
    values: np.ndarray,
    *,
    about: standard_metadata.ImageModel | None,
) -> np.ndarray:
    """Returns the 8-bit images [n, height, width, channels] behind the inputs."""
    if about is None or not about.mean:
        # MediaPipe says itself why it refuses the file.
        return np.zeros((1, *values.shape[1:]), np.uint8)
    real = values * np.asarray(about.std) + np.asarray(about.mean)
    whole = np.rint(real)
    if np.abs(real - whole).max() > _ROUNDING or whole.min() < 0 or whole.max() > 255:
        raise ConsumerError(
            "The samples are no 8-bit images after the file's normalization; "
            "ImageClassifier takes nothing else."
        )
    return whole.astype(np.uint8)


CONSUMER = Consumer(
    name="mediapipe",
    what="MediaPipe Tasks ImageClassifier, this CPU",
    missing=_missing,
    run=_run,
)
