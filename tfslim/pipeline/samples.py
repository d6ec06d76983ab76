"""Pictures with the answers of the float and the INT8 file, for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tfslim.detection import evaluation as detection
from tfslim.detection.nms import Detections
from tfslim.pipeline import check
from tfslim.pipeline.job import Job

_MOST, _MOST_DIFFERENT = 8, 4
# Pixels of the longer side that are kept.
_SIDE = 224
# In the order in which one is chosen to stand beside float.
_INT8 = ("int8", "int8_qat", "dynamic_int8")


def pick(job: Job, checker: check.Checker) -> list[dict[str, Any]]:
    """Returns test images with the answers of the float and the INT8 file.

    Those that are answered differently come first; of a detector the first ones, with
    boxes. Empty where the model does neither classify nor detect in single images.
    """
    if checker.found:
        return _detections(job, checker.found)
    name = next((name for name in _INT8 if name in checker.answers), None)
    shapes = [tuple(tensor.shape[1:]) for tensor in job.model.inputs]
    is_image = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] in (1, 3)
    if name is None or not is_image or job.feed.test is None:
        return []
    floats, quantized = checker.answers["float32"], checker.answers[name]
    differ = np.flatnonzero(floats.argmax(1) != quantized.argmax(1))[:_MOST_DIFFERENT]
    same = [i for i in range(len(floats)) if i not in set(differ)]
    chosen = sorted(differ) + same[: _MOST - len(differ)]
    images, labels = _examples(job, set(chosen))
    return [
        {
            "title": f"test image {index + 1}",
            "image": _png(_pixels(job, images[index])),
            "label": labels[index],
            "float": _answer(job, floats[index]),
            "int8": _answer(job, quantized[index]),
        }
        for index in chosen
        if index in images
    ]


def _detections(
    job: Job, found: Mapping[str, list[np.ndarray]]
) -> list[dict[str, Any]]:
    name = next((name for name in _INT8 if name in found), None)
    if name is None:
        return []
    both = [detection.choose_batch(found[key]) for key in ("float32", name)]
    images, _ = _examples(job, set(range(len(both[0]))))
    samples = []
    for index, pair in enumerate(zip(*both, strict=True)):
        answers = [{"boxes": _boxes(job, one)} for one in pair]
        samples.append(
            {
                "title": f"test image {index + 1}",
                "image": _png(_pixels(job, images[index])),
                "float": answers[0],
                "int8": answers[1],
            }
        )
    return samples


def _boxes(job: Job, found: Detections) -> list[dict[str, Any]]:
    return [
        {"box": box.tolist(), "label": _class(job, int(number)), "score": float(score)}
        for box, score, number in zip(
            found.boxes, found.scores, found.classes, strict=True
        )
    ]


def _examples(job: Job, wanted: set[int]) -> tuple[dict[int, Any], dict[int, str]]:
    """Returns inputs and labels of the test examples at some places."""
    assert job.feed.test is not None  # noqa: S101 - asked for first.
    images: dict[int, Any] = {}
    labels: dict[int, str] = {}
    start = 0
    for x, y in job.feed.test():
        array = np.asarray(x[0] if isinstance(x, list | tuple) else x)
        for index in wanted & set(range(start, start + len(array))):
            images[index] = array[index - start]
            has_label = y is not None and not job.task.has_boxes
            label = _label(job, np.asarray(y)[index - start]) if has_label else ""
            labels[index] = label
        start += len(array)
        if len(images) == len(wanted):
            break
    return images, labels


def _label(job: Job, label: np.ndarray) -> str:
    number = int(label.argmax()) if label.size > 1 else int(label.reshape(()))
    return _class(job, number)


def _class(job: Job, number: int) -> str:
    names = job.feed.facts["class_names"]
    return str(names[number]) if number < len(names) else f"class {number}"


def _answer(job: Job, outputs: np.ndarray) -> dict[str, Any]:
    number = int(outputs.argmax())
    return {"answer": _class(job, number), "score": float(outputs[number])}


def _pixels(job: Job, image: np.ndarray) -> np.ndarray:
    """Returns the picture in 0..255: without preprocessing, its range is spread."""
    known = job.preprocessing
    image = image.astype(np.float32)
    if known is None:
        low, high = float(image.min()), float(image.max())
        return (image - low) * (255 / ((high - low) or 1.0))
    return known.undo(image)


def _png(pixels: np.ndarray) -> str:
    whole = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    picture = Image.fromarray(whole[..., 0] if whole.shape[-1] == 1 else whole)
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, "png")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
