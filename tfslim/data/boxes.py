"""Boxes as targets: the objects of every image in one array of fixed width.

A dataset's targets are float32 [n, max_boxes, 5]. A row is (x_min, y_min, x_max, y_max,
class): corners as shares of the image's width and height in 0..1, from the left and
the top, and the number of the class. Rows that fill up are all zero but for the class,
`NO_OBJECT`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NO_OBJECT = -1.0

# Boxes and labels are written with six digits or in whole pixels.
_SLACK = 0.02


def pad_boxes(rows: Sequence[np.ndarray], max_boxes: int | None = None) -> np.ndarray:
    """Puts the boxes of every image into one array.

    Args:
        rows: for each image float [k, 5], any k, 0 as well.
        max_boxes: width of the result; None: the largest k, at least 1.

    Returns:
        float32 array [len(rows), max_boxes, 5].
    """
    width = max([1, *map(len, rows)]) if max_boxes is None else max_boxes
    padded = np.zeros((len(rows), width, 5), np.float32)
    padded[..., 4] = NO_OBJECT
    for index, boxes in enumerate(rows):
        padded[index, : len(boxes)] = boxes
    return padded


def clip_box(
    x_min: float, y_min: float, x_max: float, y_max: float
) -> tuple[float, float, float, float] | None:
    """Clips a box to the image, whose sides are 1.

    Returns:
        The corners in 0..1; None if the box has no area, is not finite or reaches out
        of the image by more than rounding does.
    """
    corners = np.array([x_min, y_min, x_max, y_max], np.float64)
    if not (np.isfinite(corners).all() and x_min < x_max and y_min < y_max):
        return None
    if corners.min() < -_SLACK or corners.max() > 1.0 + _SLACK:
        return None
    left, top, right, bottom = corners.clip(0.0, 1.0).tolist()
    return (left, top, right, bottom) if left < right and top < bottom else None
