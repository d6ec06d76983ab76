"""`folder:PATH`: image files in one folder per class, or in one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfslim import errors
from tfslim.data.examples import (
    SUFFIXES,
    Examples,
    FileExamples,
    no_targets,
)
from tfslim.data.sources import base

_SPLITS = {"train": "train", "val": "validation", "validation": "validation"} | {
    "test": "test"
}


def load_folder(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads PATH/CLASS/*.jpg or PATH/{train,val,test}/CLASS/*.jpg.

    Classes are numbered in the order of their names. Files that are no images by
    their suffix are passed over; images are decoded when they are read. Images that
    lie in PATH itself, or in PATH/{train,val,test}, have no labels.
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
        return _unlabelled(argument, roots, options=options)
    found: dict[str, Examples] = {}
    skipped: list[str] = []
    for split, root in roots.items():
        found[split], left_out = _read_split(
            root, classes, skip_corrupt=options.skip_corrupt
        )
        skipped += left_out
    return base.Dataset(
        name=f"folder:{argument}",
        **base.fill_splits(found, options, stratify=True),
        class_names=tuple(classes),
        skipped=tuple(skipped),
    )


def _unlabelled(
    argument: str, roots: dict[str, Path], *, options: base.LoadOptions
) -> base.Dataset:
    """Loads images that no folder gives a class."""
    found: dict[str, Examples] = {}
    skipped: list[str] = []
    for split, root in roots.items():
        images, left_out = base.list_images(root, skip_corrupt=options.skip_corrupt)
        skipped += left_out
        if not images:
            raise errors.DataError(
                f"{root} has no sub-folders and no readable images "
                f"({', '.join(sorted(SUFFIXES))}); expected one folder of images per "
                "class, or the images themselves."
            )
        found[split] = FileExamples(images, no_targets(len(images)))
    return base.unlabelled(
        f"folder:{argument}", found, options=options, skipped=skipped
    )


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise errors.ConfigError(f"{path} is not a folder.")
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _read_split(
    root: Path, classes: list[str], *, skip_corrupt: bool
) -> tuple[FileExamples, list[str]]:
    paths: list[Path] = []
    targets: list[int] = []
    skipped: list[str] = []
    for folder in _subfolders(root):
        if folder.name not in classes:
            raise errors.DataError(
                f"{folder} is a class that the training images do not have."
            )
        images, left_out = base.list_images(folder, skip_corrupt=skip_corrupt)
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
