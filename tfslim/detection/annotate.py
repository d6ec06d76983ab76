"""Boxes drawn on images."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from tfslim.detection.info import DetectorInfo
from tfslim.detection.nms import Detections
from tfslim.detection.opencv import cv2

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GREY = (40, 40, 40)


def pixel_boxes(boxes: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Returns boxes in pixels of an image of `size` (height, width)."""
    return boxes * np.array([size[1], size[0]] * 2, np.float32)


def draw(
    image: np.ndarray, found: Detections, *, info: DetectorInfo, title: str = ""
) -> np.ndarray:
    """Returns a copy of an image with boxes, names, scores and a title.

    Args:
        image: uint8 [height, width, 3], blue, green, red.
        found: boxes as shares of the image.
        info: has the names of the classes.
        title: a line at the top; "" for none.
    """
    canvas = np.ascontiguousarray(image).copy()
    scale = max(0.35, min(canvas.shape[:2]) / 900)
    thickness = max(1, round(min(canvas.shape[:2]) / 250))
    corners = pixel_boxes(found.boxes, canvas.shape).round().astype(int)
    # The best last, on top of the others.
    for index in reversed(range(len(found))):
        left, top, right, bottom = corners[index].tolist()
        label = int(found.classes[index])
        colour = _colour(label)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness)
        text = f"{info.label(label)} {found.scores[index]:.2f}"
        _write(canvas, text, corner=(left, top), colour=colour, scale=scale)
    if title:
        _write(canvas, title, corner=(0, 0), colour=_GREY, scale=scale * 1.2)
    return canvas


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns images of one size beside each other."""
    return np.concatenate(list(images), axis=1)


def _write(
    canvas: np.ndarray,
    text: str,
    *,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    scale: float,
) -> None:
    """Writes white text on a bar above `corner`, or below it at the image's top."""
    # OpenCV's font has no other characters.
    text = text.encode("ascii", "replace").decode()
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    left = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = max(corner[1], height + below)
    cv2.rectangle(
        canvas, (left, bottom - height - below), (left + width, bottom), colour, -1
    )
    place = (left, bottom - below // 2)
    cv2.putText(canvas, text, place, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _colour(label: int) -> tuple[int, int, int]:
    """Returns a dark colour (blue, green, red), another one for each class."""
    # Steps of the golden ratio are far apart, however many classes there are.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1.0, 0.9, 0.75)
    return round(255 * blue), round(255 * green), round(255 * red)
