"""`scenes`: coloured shapes on textures or photographs, made from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfslim import errors
from tfslim.data import boxes, shapes, splits
from tfslim.data.examples import SUFFIXES, Indices, decode_image
from tfslim.data.sources import base

_SPLITS = ("train", "validation", "test")
_PLACING_TRIES = 30
# Of the smaller of two objects, how much another one may cover.
_MAX_COVERED = 0.2
# The long side of an object as a share of the image's side.
_MIN_SIDE, _MAX_SIDE = 0.12, 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Settings:
    classes: int = 4
    size: int = 192
    examples: int = 1000
    max_objects: int = 5
    photos: str = ""


def load_scenes(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Makes images with boxes, on which a small detector learns in minutes.

    `scenes:classes=4,size=192,examples=1000,max_objects=5` (these are the defaults):
    uint8 images [size, size, 3] with one to `max_objects` shapes of the first
    `classes` kinds of `tfslim.data.shapes.KINDS`, of any colour and pose, on noise
    with lines; `photos=FOLDER` takes crops of the photographs there (also in
    sub-folders) as backgrounds, each photograph in one split only. An image is drawn
    when it is asked for; the same seed draws the same one.
    """
    settings = _parse(argument)
    counts = _counts(settings.examples, options)
    photos = _photos(settings.photos, counts, seed=options.seed)
    parts = {
        split: SceneExamples(
            counts[split],
            settings=settings,
            seed=(options.seed, number),
            photos=photos[split],
        )
        for number, split in enumerate(_SPLITS)
    }
    return base.Dataset(
        name=f"scenes:{argument}",
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        class_names=tuple(shapes.KINDS)[: settings.classes],
        task="detection",
    )


class SceneExamples:
    """Scenes by number; the boxes are laid out at once, the pixels when asked for."""

    def __init__(
        self,
        count: int,
        *,
        settings: _Settings,
        seed: tuple[int, ...],
        photos: Sequence[Path] = (),
    ):
        """Lays out `count` scenes."""
        self._settings = settings
        self._seed = seed
        self._photos = photos
        self._scenes = [
            _lay_out(np.random.default_rng([*seed, index, 0]), settings)
            for index in range(count)
        ]
        rows = [
            np.array([(*shape.box, shape.label) for shape in scene])
            for scene in self._scenes
        ]
        self.targets = boxes.pad_boxes(rows, settings.max_objects)

    def __len__(self) -> int:
        """Returns the number of scenes."""
        return len(self._scenes)

    def inputs(self, indices: Indices) -> np.ndarray:
        """Returns uint8 images [k, size, size, 3]."""
        return np.stack([self._draw(int(index)) for index in indices])

    def _draw(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([*self._seed, index, 1])
        size = self._settings.size
        if self._photos:
            photo = self._photos[int(rng.integers(len(self._photos)))]
            canvas = shapes.crop(decode_image(photo), size, rng=rng)
        else:
            canvas = shapes.texture(size, rng)
        for shape in self._scenes[index]:
            shapes.paint(canvas, shape, rng=rng)
        return canvas.clip(0, 255).astype(np.uint8)


def _lay_out(rng: np.random.Generator, settings: _Settings) -> list[shapes.Shape]:
    """Places shapes wholly inside the image that hardly cover each other."""
    placed: list[shapes.Shape] = []
    wanted = rng.integers(1, settings.max_objects + 1)
    for _ in range(_PLACING_TRIES * wanted):
        label = int(rng.integers(settings.classes))
        side = float(np.exp(rng.uniform(np.log(_MIN_SIDE), np.log(_MAX_SIDE))))
        shape = shapes.random_shape(label, side, rng=rng)
        if all(_covered(shape.box, other.box) <= _MAX_COVERED for other in placed):
            placed.append(shape)
            if len(placed) == wanted:
                break
    return placed


def _covered(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns the common area of two boxes as a share of the smaller one's."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0.0) * max(height, 0.0) / smaller


def _parse(text: str) -> _Settings:
    defaults = dataclasses.asdict(_Settings())
    settings = _Settings(**base.parse_options(text, defaults, source="scenes"))
    if settings.classes > len(shapes.KINDS):
        raise errors.ConfigError(
            f"scenes:classes must be 1 to {len(shapes.KINDS)} "
            f"({', '.join(shapes.KINDS)}), got {settings.classes}."
        )
    if settings.size < 32:
        raise errors.ConfigError(
            f"scenes:size must be 32 pixels or more, got {settings.size}."
        )
    return settings


def _counts(examples: int, options: base.LoadOptions) -> dict[str, int]:
    everything = np.zeros(examples)
    fractions = (options.validation_fraction, options.test_fraction)
    validation, test, train = splits.split_indices(
        everything, fractions, seed=options.seed, stratify=False
    )
    return {"train": len(train), "validation": len(validation), "test": len(test)}


def _photos(folder: str, counts: dict[str, int], *, seed: int) -> dict[str, list[Path]]:
    """Deals the photographs of a folder out to the splits, as many as they need."""
    if not folder:
        return {split: [] for split in _SPLITS}
    root = base.locate(folder, source="scenes:photos=")
    found = sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES)
    if len(found) < len(_SPLITS):
        raise errors.DataError(
            f"{root} has {len(found)} photographs; scenes need {len(_SPLITS)} or more, "
            "one for each split."
        )
    order = np.random.default_rng(seed).permutation(len(found))
    total = sum(counts.values())
    num_validation = max(1, len(found) * counts["validation"] // total)
    num_test = max(1, len(found) * counts["test"] // total)
    validation, test, train = np.split(
        order, [num_validation, num_validation + num_test]
    )
    chosen = {"train": train, "validation": validation, "test": test}
    return {split: [found[i] for i in part] for split, part in chosen.items()}
