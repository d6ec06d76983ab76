"""Drawing for made-up scenes: shapes with exact boxes, and backgrounds."""

from __future__ import annotations

import colorsys
import dataclasses

import numpy as np
from PIL import Image, ImageDraw

_CIRCLE = 64  # Corners of what passes for round.
_FINER = 4  # Masks are drawn so much larger, then averaged: smooth edges.
_MIN_CONTRAST = 60.0  # Between a shape and what is behind it, of 255.


def _polygon(angles: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _regular(corners: int) -> np.ndarray:
    return _polygon(np.arange(corners) * (2 * np.pi / corners), np.ones(corners))


def _star() -> np.ndarray:
    return _polygon(np.arange(10) * (np.pi / 5), np.tile([1.0, 0.42], 5))


def _cross() -> np.ndarray:
    arm, end = 0.3, 1.0
    quarter = np.array([(end, -arm), (end, arm), (arm, arm)])
    turn = np.array([(0.0, 1.0), (-1.0, 0.0)])
    turns = [np.linalg.matrix_power(turn, k) for k in range(4)]
    return np.concatenate([quarter @ rotation for rotation in turns])


# Name of a class -> its outline around the origin, [corners, 2].
KINDS: dict[str, np.ndarray] = {
    "circle": _regular(_CIRCLE),
    "square": _regular(4),
    "triangle": _regular(3),
    "star": _star(),
    "cross": _cross(),
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """One object of a scene.

    Attributes:
        label: its class, the position of its kind in `KINDS`.
        outline: float array [corners, 2] of (x, y) in 0..1 of the image.
    """

    label: int
    outline: np.ndarray

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The extent of the outline: x_min, y_min, x_max, y_max."""
        (x_min, y_min), (x_max, y_max) = (
            self.outline.min(axis=0),
            self.outline.max(axis=0),
        )
        return float(x_min), float(y_min), float(x_max), float(y_max)


def random_shape(label: int, side: float, *, rng: np.random.Generator) -> Shape:
    """Turns, stretches and places a shape at random, wholly inside the image.

    Args:
        label: position of its kind in `KINDS`.
        side: the longer side of its box, as a share of the image's.
        rng: gives the pose.
    """
    outline = list(KINDS.values())[label]
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    stretch = np.exp(rng.uniform(-0.35, 0.35, 2))
    outline = outline @ turn * stretch
    outline = outline - outline.min(axis=0)
    outline = outline * (side / outline.max())
    free = 1.0 - outline.max(axis=0)
    return Shape(label, outline + rng.uniform(0, free))


def paint(canvas: np.ndarray, shape: Shape, *, rng: np.random.Generator) -> None:
    """Draws a shape into a float image [height, width, 3] with values in 0..255."""
    height, width = canvas.shape[:2]
    finer = Image.new("L", (width * _FINER, height * _FINER))
    corners = shape.outline * (width * _FINER, height * _FINER)
    ImageDraw.Draw(finer).polygon([tuple(corner) for corner in corners], fill=255)
    left, top, right, bottom = shape.box
    columns = slice(int(left * width), int(np.ceil(right * width)))
    rows = slice(int(top * height), int(np.ceil(bottom * height)))
    x_min, y_min, x_max, y_max = (
        _FINER * end for end in (columns.start, rows.start, columns.stop, rows.stop)
    )
    mask = finer.crop((x_min, y_min, x_max, y_max)).reduce(_FINER)
    opacity = np.asarray(mask, np.float32)[..., None] / 255
    patch = canvas[rows, columns]
    colour = _contrasting(patch.mean(axis=(0, 1)), rng)
    shade = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.7, 1), patch.shape[0])
    ink = colour * shade[:, None, None] + rng.normal(0, 6, patch.shape)
    canvas[rows, columns] = patch + opacity * (ink - patch)


def _contrasting(behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a random colour that is not that of the background, if it can be."""
    colour = behind
    for _ in range(20):
        hsv = (rng.random(), rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0))
        colour = 255 * np.array(colorsys.hsv_to_rgb(*hsv))
        if np.abs(colour - behind).max() >= _MIN_CONTRAST:
            break
    return colour


def texture(size: int, rng: np.random.Generator) -> np.ndarray:
    """Makes a background: coloured noise of several sizes, and lines across it.

    Returns:
        float32 array [size, size, 3], values near 0..255.
    """
    canvas = np.full((size, size, 3), rng.uniform(40, 215, 3), np.float32)
    for cells in (2, 5, 12, 30):
        noise = rng.normal(0, rng.uniform(5, 30), (cells, cells, 3))
        grey = rng.random() < 0.5
        noise = noise.mean(axis=2, keepdims=True).repeat(3, 2) if grey else noise
        for channel in range(3):
            coarse = Image.fromarray(noise[..., channel].astype(np.float32))
            layer = coarse.resize((size, size), Image.Resampling.BICUBIC)
            canvas[..., channel] += np.asarray(layer)
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 6)):
        ends = [tuple(end) for end in rng.uniform(-0.2, 1.2, (2, 2)) * size]
        ink = tuple(int(value) for value in rng.uniform(0, 255, 3))
        draw.line(ends, fill=ink, width=int(rng.integers(1, max(2, size // 40) + 1)))
    return np.asarray(image, np.float32).copy()


def crop(photo: np.ndarray, size: int, *, rng: np.random.Generator) -> np.ndarray:
    """Cuts a random square out of a photograph, mirrored every second time.

    Args:
        photo: uint8 array [height, width, 1 or 3].
        size: side of the result in pixels.
        rng: gives place and size of the square, from half of the shorter side.

    Returns:
        float32 array [size, size, 3].
    """
    height, width = photo.shape[:2]
    side = rng.uniform(0.5, 1.0) * min(height, width)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    image = Image.fromarray(photo.repeat(3, axis=2) if photo.shape[2] == 1 else photo)
    image = image.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + side, top + side),
    )
    pixels = np.asarray(image, np.float32)
    return (pixels[:, ::-1] if rng.random() < 0.5 else pixels).copy()
