"""`yolo:PATH`: images with boxes as YOLO's text files have them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tfslim import errors
from tfslim.data import boxes
from tfslim.data.examples import SUFFIXES, Examples, FileExamples
from tfslim.data.sources import base


def load_yolo(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads images and their label files, one "class cx cy w h" a line and object.

    The four numbers are the centre and the size as shares of the image, as Darknet has
    them, https://github.com/AlexeyAB/darknet#how-to-train-to-detect-your-custom-objects.
    A line with six or more numbers after the class is the polygon x1 y1 x2 y2 ... of
    a segmentation; its extent is the box.

    Folders may be PATH/images/{train,val,test}/*.jpg with PATH/labels/..., or
    PATH/{train,valid,test}/images/*.jpg with labels/ beside, or either without splits;
    without a folder `labels` the text files stand beside the images. An image without
    a label file has no objects. Names of the classes come from `classes.txt`, a
    `*.names` or a `*.yaml` with `names` in PATH, one a class in order.
    """
    path = base.locate(argument, source="yolo")
    parts = {split: _list(folder, options) for split, folder in _folders(path).items()}
    rows = {
        split: [_read(file) for file in part.labels] for split, part in parts.items()
    }
    everything = [boxes_ for part in rows.values() for boxes_ in part]
    if not any(map(len, everything)):
        raise errors.DataError(
            f"{path} has images but no boxes: label files are looked for in the "
            "folder 'labels' beside 'images', or else beside the images."
        )
    num_classes = int(max(boxes_[:, 4].max(initial=0) for boxes_ in everything)) + 1
    found: dict[str, Examples] = {
        split: FileExamples(part.images, boxes.pad_boxes(rows[split]))
        for split, part in parts.items()
    }
    unlabelled = sum(not f.exists() for part in parts.values() for f in part.labels)
    return base.Dataset(
        name=f"yolo:{argument}",
        **base.fill_splits(found, options, stratify=False),
        class_names=_class_names(path, num_classes),
        task="detection",
        skipped=tuple(line for part in parts.values() for line in part.skipped),
        notes=(f"{unlabelled} images without a label file count as empty.",)
        if unlabelled
        else (),
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """The files of one split; a label file need not exist."""

    images: list[Path]
    labels: list[Path]
    skipped: list[str]


def _folders(path: Path) -> dict[str, Path]:
    """Finds the folder of images of each split."""
    for root in (path / "images", path):
        splits = base.split_folders(root)
        if "train" in splits:
            return {split: _inner_images(folder) for split, folder in splits.items()}
    return {"train": _inner_images(path)}


def _inner_images(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder


def _list(folder: Path, options: base.LoadOptions) -> _Part:
    if not folder.is_dir():
        raise errors.DataError(f"{folder} is not a folder.")
    images, skipped = base.list_images(folder, skip_corrupt=options.skip_corrupt)
    if not images:
        raise errors.DataError(
            f"{folder} has no readable images ({', '.join(sorted(SUFFIXES))})."
        )
    labels = _label_folder(folder)
    return _Part(images, [labels / f"{image.stem}.txt" for image in images], skipped)


def _label_folder(images: Path) -> Path:
    """Replaces the last folder called `images` of a path by `labels`."""
    parts = list(images.parts)
    for position in reversed(range(len(parts))):
        if parts[position] == "images":
            labels = Path(*parts[:position], "labels", *parts[position + 1 :])
            return labels if labels.is_dir() else images
    return images


def _read(file: Path) -> np.ndarray:
    """Returns the boxes of a label file, float [k, 5]; none if there is no file."""
    if not file.exists():
        return np.zeros((0, 5))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.DataError(f"{file} cannot be read as text: {error}") from error
    rows = [
        _row(line, f"{file}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    return np.array(rows).reshape(-1, 5)


def _row(line: str, place: str) -> tuple[float, ...]:
    fields = line.split()
    is_polygon = len(fields) >= 7 and len(fields) % 2 == 1
    if len(fields) != 5 and not is_polygon:
        raise errors.DataError(
            f"{place}: '{line.strip()[:60]}' has {len(fields)} fields, expected "
            "'class cx cy w h'."
        )
    try:
        label, *numbers = map(float, fields)
    except ValueError as error:
        raise errors.DataError(f"{place}: {error}; expected numbers.") from error
    if not label.is_integer() or label < 0:
        raise errors.DataError(
            f"{place}: the class must be a whole number from 0, got '{fields[0]}'."
        )
    base.check_label(int(label), place)
    if is_polygon:
        xs, ys = numbers[0::2], numbers[1::2]
        corners = (min(xs), min(ys), max(xs), max(ys))
    else:
        cx, cy, w, h = numbers
        corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    box = boxes.clip_box(*corners)
    if box is None:
        raise errors.DataError(
            f"{place}: '{line.strip()[:60]}' is no box inside the image; expected "
            "centre and size as shares of the image, between 0 and 1."
        )
    return (*box, label)


def _class_names(path: Path, num_classes: int) -> tuple[str, ...]:
    """Reads the names, or numbers the classes where there are none."""
    lists = [path / "classes.txt", *sorted(path.glob("*.names"))]
    for file in [f for f in lists if f.is_file()]:
        names = file.read_text(encoding="utf-8").splitlines()
        return _enough([n.strip() for n in names if n.strip()], num_classes, file=file)
    for file in sorted([*path.glob("*.yaml"), *path.glob("*.yml")]):
        found = _yaml_names(file)
        if found:
            return _enough(found, num_classes, file=file)
    return tuple(str(label) for label in range(num_classes))


def _yaml_names(file: Path) -> list[str]:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise errors.DataError(f"{file} is not YAML: {reason}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    return [str(name) for name in names] if isinstance(names, list) else []


def _enough(names: list[str], num_classes: int, *, file: Path) -> tuple[str, ...]:
    if len(names) < num_classes:
        raise errors.DataError(
            f"{file} names {len(names)} classes, but the labels go up to class "
            f"{num_classes - 1}."
        )
    return tuple(names)
