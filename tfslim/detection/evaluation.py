"""How well a detector does on a dataset, and how far two detectors agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tfslim import checks
from tfslim.detection import boxes as boxes_lib
from tfslim.detection.heads import Head
from tfslim.detection.metrics import Precision, Truth, mean_average_precision
from tfslim.detection.nms import Detections, NmsOptions, nms

# Average precision wants the uncertain boxes, too.
EVERYTHING = NmsOptions(score_threshold=0.005)
_AGREEING_IOU = 0.5


@checks.by_name
def detect_batch(
    maps: Sequence[np.ndarray],
    heads: Sequence[Head],
    *,
    options: NmsOptions | None = None,
) -> list[Detections]:
    """Returns what the maps of a batch of images show, image by image.

    Args:
        maps: for each head [batch, height, width, num_channels].
        heads: what they mean, in the same order.
        options: how boxes are chosen.
    """
    options = options or NmsOptions()
    found = []
    for index in range(len(maps[0])):
        one = [array[index : index + 1] for array in maps]
        boxes, scores = boxes_lib.decode_likely(
            one, heads, threshold=options.score_threshold
        )
        # What lies outside of the image cannot be seen.
        found.append(nms(boxes.clip(0.0, 1.0), scores, options=options))
    return found


def choose_batch(
    outputs: Sequence[np.ndarray], options: NmsOptions | None = None
) -> list[Detections]:
    """Returns what decoded outputs of a batch of images show, image by image.

    Args:
        outputs: boxes [batch, n, 4] as corners, and scores [batch, n, classes].
        options: how boxes are chosen.
    """
    options = options or NmsOptions()
    return [
        nms(boxes.clip(0.0, 1.0), scores, options=options)
        for boxes, scores in zip(*outputs, strict=True)
    ]


def truths_of(targets: np.ndarray) -> list[Truth]:
    """Returns the objects of each image.

    Args:
        targets: [n, max_boxes, 5], corners and class, below 0 where nothing is.
    """
    rows = [boxes[boxes[:, 4] >= 0] for boxes in np.asarray(targets)]
    return [Truth(boxes[:, :4], boxes[:, 4].astype(np.int64)) for boxes in rows]


@checks.by_name
def evaluate_detector(
    predict: Callable[[Any], Any],
    data: Iterable[tuple[Any, np.ndarray]],
    *,
    heads: Sequence[Head],
    options: NmsOptions = EVERYTHING,
) -> Precision:
    """Measures the mean average precision of a detector.

    Args:
        predict: takes inputs and returns the maps of the heads, in order, as
            `tfslim.evaluation.Predictor` does, or the `predict` of a Keras model.
        data: batches of inputs and boxes [n, max_boxes, 5], as
            `tfslim.data.batches` gives them.
        heads: what the maps mean.
        options: how boxes are chosen.

    Raises:
        ConfigError: the maps are not of these heads, or there are no objects.
    """
    detections: list[Detections] = []
    truths: list[Truth] = []
    for x, targets in data:
        maps = predict(x)
        maps = maps if isinstance(maps, list | tuple) else [maps]
        detections += detect_batch(maps, heads, options=options)
        truths += truths_of(targets)
    return mean_average_precision(detections, truths)


def agreement(one: Sequence[Detections], other: Sequence[Detections]) -> float:
    """Returns how far two detectors find the same objects in the same images.

    It is 2 * pairs / (objects of the one + objects of the other), in 0..1. A pair has
    one class and overlaps by half (intersection over union); each object is paired
    once, the most certain first. Two detectors that find nothing agree.
    """
    pairs = sum(_num_pairs(a, b) for a, b in zip(one, other, strict=True))
    total = sum(len(a) + len(b) for a, b in zip(one, other, strict=True))
    return 2.0 * pairs / total if total else 1.0


def _num_pairs(one: Detections, other: Detections) -> int:
    overlap = boxes_lib.iou(one.boxes, other.boxes)
    overlap = np.where(one.classes[:, None] == other.classes, overlap, 0.0)
    number = 0
    for row in range(len(one)):
        best = int(np.argmax(overlap[row])) if len(other) else 0
        if len(other) and overlap[row, best] >= _AGREEING_IOU:
            number += 1
            overlap[:, best] = 0.0
    return number
