"""From the raw maps of YOLO heads to boxes, and from the network's image to yours.

Boxes are corners x1, y1, x2, y2 as shares of an image's width and height; they may
reach beyond 0..1 where an object leaves the image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfslim import checks, errors
from tfslim.detection.heads import Head


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-x)) without overflow."""
    half: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * x))
    return half


def decode(
    maps: Sequence[np.ndarray], heads: Sequence[Head]
) -> tuple[np.ndarray, np.ndarray]:
    """Turns raw maps into boxes and scores.

    centre = (cell + sigmoid(t_xy)) * stride, size = anchor * exp(t_wh), score of a
    class = sigmoid(objectness) * sigmoid(class).
    Source: Redmon and Farhadi, "YOLOv3", 2018, https://arxiv.org/abs/1804.02767,
    section 2.1, and Darknet's yolo_layer.c.

    Args:
        maps: for each head [batch, height, width, num_channels], any float type.
        heads: what they mean, in the same order.

    Returns:
        boxes [batch, n, 4] and scores [batch, n, num_classes], float32; n counts the
        anchors of all cells, heads in order, cells row by row, anchors last.

    Raises:
        ConfigError: the maps are not of these heads.
    """
    found = [_decode_head(x, head) for x, head in _pairs(maps, heads)]
    boxes, scores = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    return boxes, scores


def _decode_head(x: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray]:
    batch, height, width, _ = x.shape
    values = x.reshape(batch, -1, 5 + head.num_classes)
    index = np.arange(height * width * head.num_anchors)
    return _decode_values(values, index, cells=(height, width), head=head)


@checks.by_name
def decode_likely(
    maps: Sequence[np.ndarray], heads: Sequence[Head], *, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes only where the objectness of one image is above a threshold.

    No score can be above the objectness, so nothing above `threshold` is lost; most
    cells see nothing, and their exponentials need not be computed.

    Args:
        maps: as for `decode`, of batch 1.
        heads: as for `decode`.
        threshold: in [0, 1).

    Returns:
        boxes [n, 4] and scores [n, num_classes].
    """
    with np.errstate(divide="ignore"):
        logit = np.log(threshold) - np.log1p(-threshold)
    boxes, scores = [], []
    for x, head in _pairs(maps, heads):
        if len(x) != 1:
            raise errors.ConfigError(f"Expected maps of one image, got {len(x)}.")
        values = x.reshape(-1, 5 + head.num_classes)
        # Not `<=`: what is no number must not pass for sight of an object.
        index = np.flatnonzero(values[:, 4] > logit)
        found = _decode_values(values[index], index, cells=x.shape[1:3], head=head)
        boxes.append(found[0])
        scores.append(found[1])
    return np.concatenate(boxes), np.concatenate(scores)


def _decode_values(
    values: np.ndarray, index: np.ndarray, *, cells: tuple[int, int], head: Head
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes rows [..., n, 5 + classes] of a map; `index` says which they are."""
    values = values.astype(np.float32)
    columns, rows, anchors = places(index, cells, head=head)
    grid = np.array([cells[1], cells[0]], np.float32)
    centre = (np.stack([columns, rows], -1) + sigmoid(values[..., :2])) / grid
    # A wild exponent is a box as large as the world, not a warning.
    with np.errstate(over="ignore"):
        half = np.exp(values[..., 2:4]) * (anchors / (2 * head.stride * grid))
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    scores = sigmoid(values[..., 4:5]) * sigmoid(values[..., 5:])
    return boxes, scores


def places(
    index: np.ndarray, cells: tuple[int, int], *, head: Head
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns where predictions stand in a map.

    Args:
        index: numbers of predictions, cells row by row, anchors last.
        cells: (height, width) of the map.
        head: of the map.

    Returns:
        columns [n], rows [n] and anchors [n, 2] in pixels, float32.
    """
    cell, anchor = np.divmod(index, head.num_anchors)
    rows, columns = np.divmod(cell, cells[1])
    sizes = np.array(head.anchors, np.float32)
    return columns.astype(np.float32), rows.astype(np.float32), sizes[anchor]


def _pairs(
    maps: Sequence[np.ndarray], heads: Sequence[Head]
) -> list[tuple[np.ndarray, Head]]:
    shapes = [x.shape for x in maps]
    fits = len(maps) == len(heads) and all(
        x.ndim == 4 and x.shape[-1] == head.num_channels
        for x, head in zip(maps, heads, strict=False)
    )
    sides = {
        (x.shape[1] * head.stride, x.shape[2] * head.stride)
        for x, head in zip(maps, heads, strict=False)
        if x.ndim == 4
    }
    if not fits or len(sides) != 1:
        wanted = [f"stride {h.stride}, {h.num_channels} channels" for h in heads]
        raise errors.ConfigError(
            f"The maps are {shapes}; expected [batch, height, width, channels] of one "
            f"image for the heads ({'; '.join(wanted)})."
        )
    return list(zip(maps, heads, strict=True))


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of boxes, pair by pair.

    Args:
        a: [..., n, 4], corners in any unit.
        b: [..., m, 4], in the same unit.

    Returns:
        [..., n, m]; 0 where both boxes are empty.
    """
    a, b = a[..., :, None, :], b[..., None, :, :]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    whole = _area(a) + _area(b) - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    sides: np.ndarray = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return np.prod(sides, axis=-1)


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """How an image fits into the network's input without losing its shape.

    It is scaled until one side fills, rounded down as in Darknet, and laid in the
    middle; the rest is grey.

    Attributes:
        image: (height, width) of the image in pixels.
        size: (height, width) of the network's input.
    """

    image: tuple[int, int]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        """Checks that there are pixels."""
        if min(*self.image, *self.size) < 1:
            raise errors.DataError(
                f"An image of {self.image} cannot be laid into {self.size} pixels."
            )

    @property
    def scaled(self) -> tuple[int, int]:
        """(height, width) of the image in the network's input, at least 1."""
        (height, width), (rows, columns) = self.image, self.size
        if columns * height < rows * width:
            return max(1, height * columns // width), columns
        return rows, max(1, width * rows // height)

    @property
    def offset(self) -> tuple[int, int]:
        """(top, left) of the image in the network's input."""
        height, width = self.scaled
        return (self.size[0] - height) // 2, (self.size[1] - width) // 2

    def lay(self, scaled: np.ndarray, grey: Any) -> np.ndarray:
        """Returns the network's input with the scaled image in its place.

        Args:
            scaled: [*self.scaled, channels].
            grey: what fills the rest.
        """
        height, width = self.scaled
        top, left = self.offset
        canvas = np.full((*self.size, scaled.shape[-1]), grey, scaled.dtype)
        canvas[top : top + height, left : left + width] = scaled
        return canvas

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Turns shares of the network's input into shares of the image."""
        return (boxes * self._twice(self.size) - self._twice(self.offset)) / (
            self._twice(self.scaled)
        )

    def to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Turns shares of the image into shares of the network's input."""
        return (boxes * self._twice(self.scaled) + self._twice(self.offset)) / (
            self._twice(self.size)
        )

    @staticmethod
    def _twice(pair: tuple[int, int]) -> np.ndarray:
        return np.array([pair[1], pair[0]] * 2, np.float32)
