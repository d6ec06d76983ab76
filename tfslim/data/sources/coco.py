"""`coco:PATH`: images with boxes as COCO's JSON files have them."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.data import boxes
from tfslim.data.examples import Examples, FileExamples, sound_images
from tfslim.data.sources import base


def load_coco(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads object instances in the format of https://cocodataset.org/#format-data.

    PATH is one JSON file, or a folder with annotations/instances_SPLIT*.json (COCO's
    own) or SPLIT/_annotations.coco.json; SPLIT is train, val, valid or test, with or
    without a year. Images are looked for in SPLIT*/, images/SPLIT*/ or images/ of the
    folder, and beside the JSON file. Categories are numbered 0.. in the order of their
    ids. Regions that are crowds are left out, and said so.
    """
    path = base.locate(argument, source="coco")
    parts = {split: _read(file) for split, file in _files(path).items()}
    categories: dict[int, str] = {}
    for part in parts.values():
        categories |= part.categories
    numbers = {identity: number for number, identity in enumerate(sorted(categories))}
    found: dict[str, Examples] = {}
    skipped: list[str] = []
    for split, part in parts.items():
        found[split], left_out = _examples(part, numbers, options=options)
        skipped += left_out
    crowds = sum(part.num_crowds for part in parts.values())
    return base.Dataset(
        name=f"coco:{argument}",
        **base.fill_splits(found, options, stratify=False),
        class_names=tuple(categories[identity] for identity in sorted(categories)),
        task="detection",
        skipped=tuple(skipped),
        notes=(f"{crowds} regions marked as crowds were left out.",) if crowds else (),
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """One JSON file, checked; boxes by image as (corners 0..1, category id)."""

    file: Path
    images: list[Path]
    rows: list[list[tuple[float, ...]]]
    categories: dict[int, str]
    num_crowds: int


def _files(path: Path) -> dict[str, Path]:
    """Finds the JSON file of each split."""
    if path.is_file():
        return {"train": path}
    found = {}
    for file in sorted(path.glob("annotations/instances_*.json")):
        found[base.split_of(file.stem.removeprefix("instances_"))] = file
    for split, folder in base.split_folders(path).items():
        file = folder / "_annotations.coco.json"
        if file.is_file():
            found[split] = file
    found.pop(None, None)
    if "train" in found:
        return {split: file for split, file in found.items() if split is not None}
    raise errors.DataError(
        f"{path} has neither annotations/instances_train*.json nor "
        "train/_annotations.coco.json. A single file is given as coco:FILE.json."
    )


def _read(file: Path) -> _Part:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise errors.DataError(f"{file} is not JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise errors.DataError(
                f"{file} has no list '{key}'; expected COCO's object instances."
            )
    where = "categories"
    try:
        categories = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        where = "images"
        sizes = {
            i["id"]: (float(i["width"]), float(i["height"])) for i in content[where]
        }
        folder = _image_folder(file, content[where])
        images = [folder / i["file_name"] for i in content[where]]
        where = "annotations"
        rows, num_crowds = _rows(
            content[where], sizes, categories=categories, file=file
        )
    except (KeyError, TypeError, ValueError) as error:
        raise errors.DataError(
            f"{file}: an entry of '{where}' has no valid {error}."
        ) from error
    return _Part(file, images, [rows[key] for key in sizes], categories, num_crowds)


def _rows(
    annotations: list[Any],
    sizes: dict[Any, tuple[float, float]],
    *,
    categories: dict[int, str],
    file: Path,
) -> tuple[dict[Any, list[tuple[float, ...]]], int]:
    rows: dict[Any, list[tuple[float, ...]]] = defaultdict(list)
    num_crowds = 0
    for index, annotation in enumerate(annotations):
        if annotation.get("iscrowd"):
            num_crowds += 1
            continue
        image, category = annotation["image_id"], annotation["category_id"]
        place = f"{file}, annotations[{index}]"
        if image not in sizes or category not in categories:
            raise errors.DataError(
                f"{place}: image {image} or category {category} is not in the file."
            )
        x, y, w, h = map(float, annotation["bbox"])
        width, height = sizes[image]
        box = boxes.clip_box(x / width, y / height, (x + w) / width, (y + h) / height)
        if box is None:
            raise errors.DataError(
                f"{place}: bbox {annotation['bbox']} is no box inside an image of "
                f"{width:.0f}x{height:.0f} pixels; expected [x, y, width, height]."
            )
        rows[image].append((*box, category))
    return rows, num_crowds


def _image_folder(file: Path, images: list[Any]) -> Path:
    """Returns the folder that has the first image."""
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    split = file.stem.removeprefix("instances_")
    short = base.split_of(split) or split
    tried = [
        root / split,
        root / "images" / split,
        root / short,
        root / "images" / short,
        root / "images",
        file.parent,
    ]
    if not images:
        raise errors.DataError(f"{file} lists no images.")
    name = images[0]["file_name"]
    for folder in tried:
        if (folder / name).is_file():
            return folder
    raise errors.DataError(
        f"The image {name} of {file} is not found; looked in "
        f"{', '.join(map(str, tried))}."
    )


def _examples(
    part: _Part, numbers: dict[int, int], *, options: base.LoadOptions
) -> tuple[FileExamples, list[str]]:
    images: list[Path] = part.images
    skipped: list[str] = []
    if options.skip_corrupt:
        images, skipped = sound_images(part.images)
    sound = set(images)
    rows = [
        np.array([(*box, numbers[int(category)]) for *box, category in row]).reshape(
            -1, 5
        )
        for image, row in zip(part.images, part.rows, strict=True)
        if image in sound
    ]
    return FileExamples(images, boxes.pad_boxes(rows)), skipped
