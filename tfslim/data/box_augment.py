"""Random changes of one training image and of the boxes in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from tfslim.data import augment
from tfslim.data.boxes import NO_OBJECT

BoxAugmentation = Callable[
    [np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]
]

# Largest zoom, in and out; as scale=.5 of Ultralytics' YOLOv5 and of SSD's expansion.
_MAX_ZOOM = 1.6
# A box of which less is left in the image is no object any more.
_MIN_VISIBLE = 0.3


def flip(
    image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors left and right, every second time.

    Args:
        image: array [height, width, channels].
        boxes: float array [k, 5], see `tfslim.data.boxes`.
        rng: decides.
    """
    if rng.random() < 0.5:
        return image, boxes
    mirrored = boxes.copy()
    is_object = boxes[:, 4] != NO_OBJECT
    mirrored[is_object, 0] = 1.0 - boxes[is_object, 2]
    mirrored[is_object, 2] = 1.0 - boxes[is_object, 0]
    return image[:, ::-1], mirrored


def zoom(
    image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Enlarges a part, or shrinks the whole and fills the rest with the mean colour.

    By up to 1.6, as likely in as out; the part, or the place, is chosen at random.
    Boxes are clipped; one of which less than 30% stays visible is dropped.

    Args:
        image: array [height, width, channels].
        boxes: float array [k, 5], see `tfslim.data.boxes`.
        rng: gives factor and place.
    """
    limit = np.log(_MAX_ZOOM)
    factor = float(np.exp(rng.uniform(-limit, limit)))
    free = 1.0 - 1.0 / factor
    left, top = rng.uniform(min(free, 0.0), max(free, 0.0), 2)
    return _window(image, left, top=top, factor=factor), _windowed(
        boxes, left, top=top, factor=factor
    )


def _window(image: np.ndarray, left: float, *, top: float, factor: float) -> np.ndarray:
    height, width = image.shape[:2]
    rows = (1 / factor, 0.0, left * width, 0.0, 1 / factor, top * height)
    channels = [
        Image.fromarray(np.ascontiguousarray(channel, np.float32)).transform(
            (width, height),
            Image.Transform.AFFINE,
            rows,
            Image.Resampling.BILINEAR,
            fillcolor=float(channel.mean()),
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack([np.asarray(c) for c in channels], axis=-1).astype(image.dtype)


def _windowed(
    boxes: np.ndarray, left: float, *, top: float, factor: float
) -> np.ndarray:
    moved = boxes.copy()
    moved[:, :4] = (boxes[:, :4] - (left, top, left, top)) * factor
    clipped = moved[:, :4].clip(0.0, 1.0)
    visible = _areas(clipped) >= _MIN_VISIBLE * _areas(moved)
    moved[:, :4] = clipped
    moved[~visible | (boxes[:, 4] == NO_OBJECT)] = (0, 0, 0, 0, NO_OBJECT)
    return moved


def _areas(corners: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (corners[:, 2] - corners[:, 0]) * (
        corners[:, 3] - corners[:, 1]
    )
    return areas


def without_boxes(step: augment.Augmentation) -> BoxAugmentation:
    """Makes an augmentation that moves nothing take boxes, which it leaves."""

    def apply(
        image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return step(image, rng), boxes

    return apply


BOX_AUGMENTATIONS: dict[str, BoxAugmentation] = {
    "colour": without_boxes(augment.colour),
    "flip": flip,
    "zoom": zoom,
}
