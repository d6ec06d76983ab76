"""`folder:PATH`: image files in one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfslim import errors
from tfslim.data.examples import SUFFIXES, Examples, FileExamples, sound_images
from tfslim.data.sources import base

_SPLITS = {"train": "train", "val": "validation", "validation": "validation"} | {
    "test": "test"
}


def load_folder(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads PATH/CLASS/*.jpg or PATH/{train,val,test}/CLASS/*.jpg.

    Classes are numbered in the order of their names. Files that are no images by
    their suffix are passed over; images are decoded when they are read.
    """
    path = base.locate(argument, source="folder")
    folders = _subfolders(path)
    names = {folder.name for folder in folders}
    by_split = "train" in names and names <= set(_SPLITS)
    roots = (
        {_SPLITS[folder.name]: folder for folder in folders}
        if by_split
        else {"train": path}
    )
    classes = [folder.name for folder in _subfolders(roots["train"])]
    if not classes:
        raise errors.DataError(
            f"{roots['train']} has no sub-folders; expected one folder of images per "
            "class."
        )
    found: dict[str, Examples] = {}
    skipped: list[str] = []
    for split, root in roots.items():
        found[split], left_out = _read_split(root, classes, options.skip_corrupt)
        skipped += left_out
    return base.Dataset(
        name=f"folder:{argument}",
        **base.fill_splits(found, options, stratify=True),
        class_names=tuple(classes),
        skipped=tuple(skipped),
    )


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise errors.DataError(f"{path} is not a folder.")
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _read_split(
    root: Path, classes: list[str], skip_corrupt: bool
) -> tuple[FileExamples, list[str]]:
    paths: list[Path] = []
    targets: list[int] = []
    skipped: list[str] = []
    for folder in _subfolders(root):
        if folder.name not in classes:
            raise errors.DataError(
                f"{folder} is a class that the training images do not have."
            )
        images = sorted(
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
        )
        if skip_corrupt:
            images, left_out = sound_images(images)
            skipped += left_out
        if not images:
            raise errors.DataError(
                f"The class folder {folder} has no readable images "
                f"({', '.join(sorted(SUFFIXES))})."
            )
        paths += images
        targets += [classes.index(folder.name)] * len(images)
    if not paths:
        raise errors.DataError(f"{root} has no class folders.")
    return FileExamples(paths, np.array(targets, np.int64)), skipped
