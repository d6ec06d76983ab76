"""`npz:PATH`: a NumPy archive of inputs, with labels or without."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tfslim import errors
from tfslim.data.examples import ArrayExamples, Examples, NamedExamples, no_targets
from tfslim.data.sources import base

_SPLITS = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
_LABELS = ("y", "label", "labels", "target", "targets")
_NAMES = "class_names"

# Name without its split -> split -> name in the file and array.
_Parts = dict[str, dict[str, tuple[str, np.ndarray]]]


def load_npz(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads x_train, y_train and, where they exist, x_test, y_test, x_val, y_val.

    x: [n, height, width, channels] or [n, height, width] with pixels in 0..255, or
    vectors and sequences [n, ...]. y: class indices (whole numbers or one-hot rows)
    or floats, which make it a regression. `x` and `y` alone are split. `class_names`
    is read if it is there. Without y the examples have no labels: they calibrate.

    Without any x, the other arrays are inputs by their names, as a model with
    several inputs has them: `left` and `right`, or `left_train` and `left_test`. One
    alone is the one input, whatever its name. Pickled objects are never loaded: they
    can run code.
    """
    path = base.locate(argument, source="npz")
    arrays = _read(path)
    for name, array in arrays.items():
        if array.ndim == 0:
            raise errors.DataError(
                f"{path}: {name} is one value, {str(array)[:40]}, not an array; "
                "expected one entry an example (a class for class_names)."
            )
    parts = _parts(arrays)
    targets = _label_part(parts)
    inputs = {"x": parts["x"]} if "x" in parts else parts
    if not inputs:
        raise errors.DataError(
            f"{path} needs inputs, x_train (with y_train for labels) or x; it has "
            f"{', '.join(sorted(arrays)) or 'none'}."
        )
    notes: list[str] = []
    found: dict[str, Examples] = {}
    for split in dict.fromkeys(s for part in inputs.values() for s in part):
        found[split] = _examples(
            path, inputs, targets=targets, split=split, notes=notes
        )
    if not targets:
        return base.unlabelled(f"npz:{argument}", found, options=options, notes=notes)
    return _labelled(
        argument,
        path,
        names=arrays.get(_NAMES),
        found=found,
        options=options,
        notes=notes,
    )


def _labelled(
    argument: str,
    path: Path,
    *,
    names: np.ndarray | None,
    found: dict[str, Examples],
    options: base.LoadOptions,
    notes: list[str],
) -> base.Dataset:
    if "train" not in found:
        raise errors.DataError(
            f"{path} has {', '.join(found)} examples, and none to train with: name "
            "them x_train and y_train."
        )
    classes = found["train"].targets.dtype == np.int64
    if any((part.targets.dtype == np.int64) != classes for part in found.values()):
        raise errors.DataError(f"{path} has classes in one split, floats in another.")
    return base.Dataset(
        name=f"npz:{argument}",
        **base.fill_splits(found, options, stratify=classes),
        class_names=_class_names(names, found, path=path) if classes else (),
        task="classification" if classes else "regression",
        notes=tuple(notes),
    )


def _parts(arrays: dict[str, np.ndarray]) -> _Parts:
    """Sorts arrays by what their names say: "left_test" is of the test split."""
    parts: _Parts = {}
    for name, array in arrays.items():
        if name == _NAMES:
            continue
        stem, _, split = name.rpartition("_")
        if not stem or split not in _SPLITS:
            stem, split = name, "train"
        parts.setdefault(stem, {})[_SPLITS[split]] = (name, array)
    return parts


def _label_part(parts: _Parts) -> dict[str, tuple[str, np.ndarray]]:
    """Takes the labels out; another name than y is one only beside something else."""
    for name in _LABELS:
        if name in parts and (name == "y" or len(parts) > 1):
            return parts.pop(name)
    return {}


def _examples(
    path: Path,
    inputs: _Parts,
    *,
    targets: dict[str, tuple[str, np.ndarray]],
    split: str,
    notes: list[str],
) -> Examples:
    names = {}
    for stem, part in inputs.items():
        if split not in part:
            others = [p[split][0] for p in inputs.values() if split in p]
            raise errors.DataError(
                f"{path} has {others[0]} but no {stem} of the same split."
            )
        names[stem] = part[split][0]
    first = next(iter(names))
    if targets and split not in targets:
        wanted = "y" + names[first].removeprefix(first)
        raise errors.DataError(f"{path} has {names[first]} but no {wanted}.")
    arrays = {stem: part[split][1] for stem, part in inputs.items()}
    if len(arrays) == 1:
        x = _inputs(arrays[first], f"{path}: {names[first]}", notes=notes)
        return ArrayExamples(x, _targets_of(path, targets, split=split, count=len(x)))
    found = {
        stem: _named_input(array, f"{path}: {names[stem]}")
        for stem, array in arrays.items()
    }
    count = len(found[first])
    return NamedExamples(found, _targets_of(path, targets, split=split, count=count))


def _targets_of(
    path: Path, targets: dict[str, tuple[str, np.ndarray]], *, split: str, count: int
) -> np.ndarray:
    if not targets:
        return no_targets(count)
    name, array = targets[split]
    return _targets(array, f"{path}: {name}")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if "pickle" in str(error).lower():
            raise errors.DataError(
                f"{path} is no .npz of plain arrays; pickled Python objects are not "
                "loaded, because they can run code. Save numbers only."
            ) from error
        raise errors.DataError(f"{path} cannot be read: {error}.") from error
    except (AttributeError, TypeError) as error:
        # np.load of a single array (.npy) returns no archive.
        raise errors.DataError(
            f"{path} is a single array; expected an .npz with x_train and y_train."
        ) from error


def _inputs(x: np.ndarray, name: str, *, notes: list[str]) -> np.ndarray:
    if x.ndim < 2 or not len(x) or x.dtype.kind not in "uif":
        raise errors.DataError(
            f"{name} has shape {x.shape} and type {x.dtype}; expected numbers "
            "[n, height, width, channels], [n, height, width] or [n, features]."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise errors.DataError(f"{name} has values that are not finite.")
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4 and x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1:
        notes.append(
            f"{name} is in 0..1. It is taken as it is: use the preprocessing 'raw'; "
            "the others expect pixels in 0..255."
        )
    return x


def _named_input(x: np.ndarray, name: str) -> np.ndarray:
    """Checks one of several inputs, which the model takes as it is."""
    if not len(x) or x.dtype.kind not in "uifb":
        raise errors.DataError(
            f"{name} has shape {x.shape} and type {x.dtype}; expected numbers [n, ...]."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise errors.DataError(f"{name} has values that are not finite.")
    return x


def _targets(y: np.ndarray, name: str) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind in "uib":
        y = y[:, 0]
    if y.ndim == 2 and y.shape[1] > 1 and _is_one_hot(y):
        y = y.argmax(axis=1)
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            raise errors.DataError(f"{name} has values that are not finite.")
        y = y.astype(np.float32)
        return y[:, None] if y.ndim == 1 else y
    if y.dtype.kind not in "uib" or y.ndim != 1 or (len(y) and y.min() < 0):
        raise errors.DataError(
            f"{name} has shape {y.shape} and type {y.dtype}; expected class indices "
            "[n] from 0, one-hot rows [n, classes] or floats."
        )
    if len(y):
        base.check_label(int(y.max()), f"{name}[{int(y.argmax())}]")
    return y.astype(np.int64)


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def _class_names(
    given: np.ndarray | None, found: dict[str, Examples], *, path: Path
) -> tuple[str, ...]:
    targets = np.concatenate([part.targets for part in found.values()])
    if given is None:
        return base.numbered_classes(targets)
    names = tuple(str(name) for name in given)
    if len(names) <= targets.max(initial=-1):
        raise errors.DataError(
            f"{path} names {len(names)} classes, but has the class {targets.max()}."
        )
    return names
