"""How good detections are: average precision as COCO defines it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfslim import errors
from tfslim.detection import boxes as boxes_lib
from tfslim.detection.nms import Detections

# 0.5, 0.55, ... 0.95, and 0, 0.01, ... 1.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
# COCO looks at this many boxes of a class in an image.
_MAX_DETECTIONS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The objects of one image.

    Attributes:
        boxes: [n, 4], corners in the unit of the detections.
        classes: int [n].
    """

    boxes: np.ndarray
    classes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Precision:
    """Average precision over recall.

    Attributes:
        map_50: mean over the classes at an overlap of 0.5.
        map_50_95: mean over the classes and `IOU_THRESHOLDS`.
        per_class: class -> average precision at each of `IOU_THRESHOLDS`; only classes
            that occur in the truths.
    """

    map_50: float
    map_50_95: float
    per_class: dict[int, np.ndarray]


def mean_average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth]
) -> Precision:
    """Compares the detections of images with what is in them.

    A detection is right if it overlaps an object of its class that no more certain
    one has taken. Precision, made to fall with recall, is averaged over 101 recalls.
    Source: the COCO detection metric, https://cocodataset.org/#detection-eval, as
    pycocotools computes it for objects of all sizes.

    Args:
        detections: of each image; all that were found, also those of low score.
        truths: of the same images.

    Raises:
        ConfigError: there are not as many truths, or no objects in them.
    """
    if len(detections) != len(truths):
        raise errors.ConfigError(
            f"There are detections of {len(detections)} images and truths of "
            f"{len(truths)}."
        )
    present = sorted({int(c) for truth in truths for c in truth.classes})
    if not present:
        raise errors.ConfigError("No image has an object: precision has no meaning.")
    per_class = {c: _average_precision(detections, truths, label=c) for c in present}
    table = np.stack(list(per_class.values()))
    return Precision(float(table[:, 0].mean()), float(table.mean()), per_class)


def _average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], *, label: int
) -> np.ndarray:
    """Returns the average precision of a class at each threshold."""
    scores, hits, num_objects = [], [], 0
    for found, truth in zip(detections, truths, strict=True):
        mine = np.flatnonzero(found.classes == label)
        order = np.argsort(-found.scores[mine], kind="stable")[:_MAX_DETECTIONS]
        objects = truth.boxes[truth.classes == label]
        num_objects += len(objects)
        scores.append(found.scores[mine][order])
        hits.append(_match(found.boxes[mine][order], objects))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    is_hit = np.concatenate(hits, axis=1)[:, order]
    right = np.cumsum(is_hit, axis=1, dtype=np.float64)
    recall = right / num_objects
    precision = right / np.arange(1, is_hit.shape[1] + 1)
    # The best precision at this recall or a higher one.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    values = []
    for at_recall, at_precision in zip(recall, precision, strict=True):
        index = np.searchsorted(at_recall, _RECALLS, side="left")
        reached = index < len(at_recall)
        values.append(at_precision[index[reached]].sum() / len(_RECALLS))
    return np.array(values)


def _match(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Tells which boxes, the most certain first, hit an object of their own.

    Returns:
        bool [thresholds, boxes].
    """
    hits = np.zeros((len(IOU_THRESHOLDS), len(boxes)), bool)
    if not len(boxes) or not len(objects):
        return hits
    overlap = boxes_lib.iou(boxes.astype(np.float64), objects.astype(np.float64))
    for number, threshold in enumerate(IOU_THRESHOLDS):
        free = np.ones(len(objects), bool)
        for index, row in enumerate(overlap):
            candidates = np.where(free, row, -1.0)
            # Of equal overlaps, pycocotools takes the last object.
            best = len(row) - 1 - int(np.argmax(candidates[::-1]))
            if candidates[best] >= threshold:
                hits[number, index] = True
                free[best] = False
    return hits
