"""Random changes of one training image that leave its class what it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_SHIFT = 0.125


def flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right, every second time. Not for digits or letters."""
    return image[:, ::-1] if rng.random() < 0.5 else image


def shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves by up to an eighth of the size; the border is filled by reflection.

    As the padded crop of He et al., CVPR 2016, https://arxiv.org/abs/1512.03385,
    section 4.2 (4 pixels of 32), which fills with zeros.

    Args:
        image: array [height, width, channels].
        rng: gives the two offsets.
    """
    height, width = image.shape[:2]
    rows, columns = int(height * _SHIFT), int(width * _SHIFT)
    padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode="reflect")
    top, left = rng.integers(0, 2 * rows + 1), rng.integers(0, 2 * columns + 1)
    return padded[top : top + height, left : left + width]


def colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast and saturation by up to a third.

    Relative to the image's own mean and spread, so that it fits any preprocessing.

    Args:
        image: array [height, width, channels].
        rng: gives the three strengths.
    """
    contrast, saturation = np.exp(rng.uniform(-0.3, 0.3, 2))
    brightness = rng.uniform(-0.3, 0.3) * image.std()
    grey = image.mean(axis=-1, keepdims=True)
    mean = image.mean()
    jittered = grey + saturation * (image - grey)
    changed: np.ndarray = mean + contrast * (jittered - mean) + brightness
    return changed.astype(image.dtype)


AUGMENTATIONS: dict[str, Augmentation] = {
    "colour": colour,
    "flip": flip,
    "shift": shift,
}
