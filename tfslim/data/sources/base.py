"""What a source of data returns, and how it is found by one string."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from tfslim import errors, registry
from tfslim.data import splits
from tfslim.data.examples import SUFFIXES, Examples, Subset, sound_images

# The largest number of a class. What is beyond is an ID in the place of a label:
# names and networks would be made for all the numbers up to it.
MOST_CLASSES = 2**16

# So few examples without labels are not split: all serve for all.
_FEW = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What applies to every source.

    Attributes:
        seed: of the splits, and of data that is made up.
        validation_fraction: share of the examples to watch while training, taken
            from the training examples where the source has no such split.
        test_fraction: share of the examples never seen before the end; only where the
            source has no test split.
        data_dir: where a source that downloads keeps its files.
        skip_corrupt: decode every image once and leave out what fails, instead of
            failing; `Dataset.skipped` names them.
    """

    seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    data_dir: Path | str | None = None
    skip_corrupt: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Three disjoint splits of one dataset.

    Attributes:
        name: the string it was loaded by.
        train: what the weights are fitted to; calibration samples come from here.
        validation: what the best epoch is chosen by.
        test: what the result is measured on, once.
        class_names: one per class; empty if the targets are no classes.
        task: name of the task that the targets suggest; "" without targets.
        skipped: one line per example that was left out, with the reason.
        notes: what the user should know about the data, one line each.
    """

    name: str
    train: Examples
    validation: Examples
    test: Examples
    class_names: tuple[str, ...] = ()
    task: str = "classification"
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_labelled(self) -> bool:
        """Whether there are targets: without, a model can be calibrated only."""
        return self.train.targets.size > 0


class Splits(TypedDict):
    """The three splits of a `Dataset`."""

    train: Examples
    validation: Examples
    test: Examples


_SPLIT_NAMES = {"train": "train", "test": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "validation"
)

# Sources whose argument is a path.
_OF_A_PATH = ("coco", "folder", "npz", "yolo")

Source = Callable[[str, LoadOptions], Dataset]
SOURCES: registry.Registry[Source] = registry.Registry("data source")


def load(
    spec: str,
    *,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    data_dir: Path | str | None = None,
    skip_corrupt: bool = False,
) -> Dataset:
    """Loads a dataset by one string.

    Args:
        spec: "digits", "tfds:NAME", "folder:PATH", "npz:PATH", "synthetic" or
            "synthetic:OPTIONS"; of images with boxes "yolo:PATH", "coco:PATH" or
            "scenes:OPTIONS"; `SOURCES` holds them.
        seed: see `LoadOptions`, as for the others.
        validation_fraction: share of all examples, 0..1.
        test_fraction: share of all examples, 0..1.
        data_dir: where a source that downloads keeps its files.
        skip_corrupt: leave out images that cannot be decoded.

    Raises:
        ConfigError: there is no such source, or its argument makes no sense.
        DataError: the data cannot be had or read.

    Example:
        >>> len(load("digits").test)
        359
    """
    source, _, argument = spec.partition(":")
    options = LoadOptions(
        seed=seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        data_dir=data_dir,
        skip_corrupt=skip_corrupt,
    )
    return dataclasses.replace(SOURCES.get(source)(argument, options), name=spec)


def check(spec: str) -> None:
    """Raises ConfigError for a source that there is not, or a path; loads nothing."""
    source, _, argument = spec.partition(":")
    if source not in SOURCES:
        if Path(spec).is_dir():
            raise errors.ConfigError(
                f"Unknown data source '{spec}'. It is a folder: 'folder:{spec}'."
            )
        raise registry.unknown_name("data source", source, known=SOURCES.names())
    if source in _OF_A_PATH:
        locate(argument, source=source)


def split_three_ways(
    examples: Examples, options: LoadOptions, *, stratify: bool
) -> Splits:
    """Splits one collection into train, validation and test."""
    fractions = (options.validation_fraction, options.test_fraction)
    validation, test, train = splits.split_indices(
        examples.targets, fractions, seed=options.seed, stratify=stratify
    )
    return {
        "train": Subset(examples, train),
        "validation": Subset(examples, validation),
        "test": Subset(examples, test),
    }


def fill_splits(
    found: dict[str, Examples], options: LoadOptions, *, stratify: bool
) -> Splits:
    """Makes up for the splits that a source does not have.

    A source with train and one held-out split, whatever its name, keeps that one as
    the test split, because choosing the best epoch by it would flatter the result.

    Args:
        found: "train" and perhaps "validation" and "test".
        options: the fractions and the seed.
        stratify: whether the targets are classes.
    """
    held_out = [name for name in ("validation", "test") if name in found]
    if len(held_out) == 2:
        return {
            "train": found["train"],
            "validation": found["validation"],
            "test": found["test"],
        }
    if not held_out:
        return split_three_ways(found["train"], options, stratify=stratify)
    validation, train = splits.split_indices(
        found["train"].targets,
        (options.validation_fraction,),
        seed=options.seed,
        stratify=stratify,
    )
    return {
        "train": Subset(found["train"], train),
        "validation": Subset(found["train"], validation),
        "test": found[held_out[0]],
    }


def unlabelled(
    name: str,
    found: dict[str, Examples],
    *,
    options: LoadOptions,
    skipped: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Dataset:
    """Makes a dataset of examples that have no targets.

    Args:
        name: the string it was loaded by.
        found: at least one of "train", "validation" and "test".
        options: the fractions and the seed.
        skipped: see `Dataset`.
        notes: see `Dataset`.
    """
    if "train" not in found and len(found) == 1:
        found = {"train": next(iter(found.values()))}
    found = {**found, "train": found.get("train", next(iter(found.values())))}
    count, notes = len(found["train"]), list(notes)
    if len(found) > 1:
        held_out = [found[key] for key in ("validation", "test") if key in found]
        splits: Splits = {
            "train": found["train"],
            "validation": held_out[0],
            "test": held_out[-1],
        }
    elif count < _FEW:
        notes.append(
            f"There are {count} examples only: the same calibrate and test the files."
        )
        every = found["train"]
        splits = {"train": every, "validation": every, "test": every}
    else:
        splits = split_three_ways(found["train"], options, stratify=False)
    return Dataset(
        name=name, **splits, task="", skipped=tuple(skipped), notes=tuple(notes)
    )


def locate(argument: str, *, source: str) -> Path:
    """Returns the path named in a spec, with `~` and `$VARIABLES` replaced."""
    if not argument:
        raise errors.ConfigError(
            f"The source '{source}' needs a path: '{source}:PATH'."
        )
    path = Path(os.path.expandvars(argument)).expanduser()
    if not path.exists():
        raise errors.ConfigError(f"{path} does not exist (asked for by '{source}:').")
    return path


def split_of(name: str) -> str | None:
    """Returns the split that a folder or file called "val", "valid2017", ... holds.

    Example:
        >>> split_of("val2017"), split_of("cats")
        ('validation', None)
    """
    return _SPLIT_NAMES.get(name.rstrip("0123456789"))


def split_folders(path: Path) -> dict[str, Path]:
    """Returns the sub-folders of `path` that are splits."""
    found: dict[str, Path] = {}
    for folder in sorted(path.iterdir()) if path.is_dir() else []:
        split = split_of(folder.name)
        if split is not None and folder.is_dir():
            found[split] = folder
    return found


def no_argument(argument: str, *, source: str) -> None:
    """Refuses an argument for a source that takes none."""
    if argument:
        raise errors.ConfigError(
            f"The source '{source}' takes no argument, got '{source}:{argument}'."
        )


def parse_options(
    text: str, defaults: Mapping[str, int | str], *, source: str
) -> dict[str, Any]:
    """Reads "classes=4,size=192"; numbers are whole and above 0.

    Args:
        text: what stands behind the source's name.
        defaults: option -> its value where none is given.
        source: the source's name, for messages.
    """
    settings = dict(defaults)
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in defaults:
            raise registry.unknown_name(f"option of '{source}'", name, known=defaults)
        is_text = isinstance(defaults[name], str)
        if not is_text and (not value.isdecimal() or int(value) < 1):
            raise errors.ConfigError(
                f"{source}:{name} must be a whole number above 0, got '{value}'."
            )
        settings[name] = value if is_text else int(value)
    return settings


def list_images(folder: Path, *, skip_corrupt: bool) -> tuple[list[Path], list[str]]:
    """Lists the images of a folder, and what was left out, and why."""
    images = sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
    )
    return sound_images(images) if skip_corrupt else (images, [])


def numbered_classes(targets: np.ndarray) -> tuple[str, ...]:
    """Names the classes 0..max by their number."""
    return tuple(str(label) for label in range(int(targets.max(initial=-1)) + 1))


def check_label(largest: int, place: str) -> None:
    """Raises DataError for a number that can be no class."""
    if largest >= MOST_CLASSES:
        raise errors.DataError(
            f"{place} is {largest}; classes are numbered from 0, at most "
            f"{MOST_CLASSES - 1}. It may be an ID: number the classes 0, 1, 2, …."
        )
