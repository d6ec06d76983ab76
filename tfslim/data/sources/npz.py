"""`npz:PATH`: a NumPy archive with x_train, y_train and perhaps other splits."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tfslim import errors
from tfslim.data.examples import ArrayExamples, Examples
from tfslim.data.sources import base

_SPLITS = {"train": "train", "val": "validation", "validation": "validation"} | {
    "test": "test"
}


def load_npz(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads x_train, y_train and, where they exist, x_test, y_test, x_val, y_val.

    x: [n, height, width, channels] or [n, height, width] with pixels in 0..255, or
    vectors [n, features]. y: class indices (whole numbers or one-hot rows) or floats,
    which make it a regression. `class_names` is read if it is there. Pickled objects
    are never loaded: they can run code.
    """
    path = base.locate(argument, source="npz")
    arrays = _read(path)
    if "x_train" not in arrays or "y_train" not in arrays:
        raise errors.DataError(
            f"{path} needs the arrays x_train and y_train; it has "
            f"{', '.join(sorted(arrays)) or 'none'}."
        )
    found: dict[str, Examples] = {}
    notes: list[str] = []
    for key, split in _SPLITS.items():
        if f"x_{key}" not in arrays:
            continue
        if f"y_{key}" not in arrays:
            raise errors.DataError(f"{path} has x_{key} but no y_{key}.")
        x = _inputs(arrays[f"x_{key}"], f"{path}: x_{key}", notes)
        y = _targets(arrays[f"y_{key}"], f"{path}: y_{key}")
        found[split] = ArrayExamples(x, y)
    classes = found["train"].targets.dtype == np.int64
    if any((part.targets.dtype == np.int64) != classes for part in found.values()):
        raise errors.DataError(f"{path} has classes in one split, floats in another.")
    return base.Dataset(
        name=f"npz:{argument}",
        **base.fill_splits(found, options, stratify=classes),
        class_names=_class_names(arrays, found, path) if classes else (),
        task="classification" if classes else "regression",
        notes=tuple(notes),
    )


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


def _inputs(x: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
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
    return y.astype(np.int64)


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def _class_names(
    arrays: dict[str, np.ndarray], found: dict[str, Examples], path: Path
) -> tuple[str, ...]:
    targets = np.concatenate([part.targets for part in found.values()])
    if "class_names" not in arrays:
        return base.numbered_classes(targets)
    names = tuple(str(name) for name in arrays["class_names"])
    if len(names) <= targets.max():
        raise errors.DataError(
            f"{path} names {len(names)} classes, but has the class {targets.max()}."
        )
    return names
