"""Zip archives and HDF5 files from outside: nothing but their own bytes is read.

Both formats can name other files, and both can declare far more than they hold. What
does is refused before a byte of content is read. What is checked is a private copy,
so that nobody changes it between the check and the reading.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import h5py
import numpy as np

from tfslim import errors

# Keras writes without compression; what others compress does not shrink to a
# hundredth, unless it is small.
_MAX_EXPANSION = 100
_FREE_BYTES = 64 * 2**20
# Those that HDF5 brings along, by their registered numbers, and h5py's LZF; others
# are looked for as libraries on disk.
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}
# Kinds of numpy's types that numbers have.
_NUMBERS = "biuf"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Yields a temporary folder that only this user can write to.

    Raises:
        DataError: there is no place for one.
    """
    try:
        folder = tempfile.mkdtemp(prefix="tfslim-")
    except OSError as error:
        raise errors.DataError(
            f"Opening a model needs a temporary folder, and none can be made: "
            f"{error.strerror or error}. Set TMPDIR to a folder that can be written to."
        ) from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_file(path: Path, target: Path) -> Path:
    """Copies a plain file, and no other kind: a pipe would never end."""
    require_file(path)
    with path.open("rb") as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 2**20)
    return target


def require_file(path: Path) -> None:
    """Refuses a folder, a pipe or a device where a file is to be read."""
    if path.exists() and not path.is_file():
        raise errors.ConfigError(f"'{path}' is no plain file.")


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yields a zip archive whose entries stay where they are unpacked.

    Raises:
        DataError: entries that lead outside, stand twice, are links or encrypted, or
            declare more than the file can hold.
    """
    with zipfile.ZipFile(path) as archive:
        seen = set()
        for entry in archive.infolist():
            reason = _misleads(entry)
            if entry.filename in seen:
                reason = "stands twice in it"
            if reason:
                raise errors.DataError(
                    f"'{path}': entry {entry.filename!r} {reason}. No Keras writes "
                    "such an archive; get the model from another source."
                )
            seen.add(entry.filename)
        declared = sum(entry.file_size for entry in archive.infolist())
        _require_plausible(declared, path)
        yield archive


def _misleads(entry: zipfile.ZipInfo) -> str | None:
    place = PurePosixPath(entry.filename)
    if place.is_absolute() or ".." in place.parts or set("\\:\0") & set(str(place)):
        return "leads outside of the archive"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is no plain file"
    if entry.flag_bits & 1:
        return "is encrypted"
    return None


def _require_plausible(declared: int, path: Path, *, name: str | Path = "") -> None:
    size = path.stat().st_size
    if declared > _FREE_BYTES + _MAX_EXPANSION * size:
        raise errors.DataError(
            f"'{name or path}' ({size:,} bytes) declares {declared:,} bytes of "
            "content, more than such a file holds: it is damaged, or made to fill the "
            "memory."
        )


@contextlib.contextmanager
def open_hdf5(path: Path, name: str | Path = "") -> Iterator[h5py.File]:
    """Yields an HDF5 file that reaches no other file and declares what it holds.

    Args:
        path: the file.
        name: what messages call it; by default its path.

    Raises:
        DataError: links, external or virtual datasets, foreign filters, or shapes
            that the file cannot fill.
    """
    with h5py.File(path, "r") as file:
        declared = 0
        for place, item in _objects(file.id):
            if isinstance(item, h5py.h5d.DatasetID):
                _require_own(item, place, name=name or path)
                declared += math.prod(item.shape or (0,)) * item.get_type().get_size()
            elif item is None:
                raise _outside(
                    name or path, place, what="is a link, which can name a file"
                )
        _require_plausible(declared, path, name=name)
        yield file


def _objects(
    root: h5py.h5g.GroupID,
) -> Iterator[tuple[str, h5py.h5g.GroupID | h5py.h5d.DatasetID | None]]:
    """Yields every object of a file once, by its place; None for a link to elsewhere.

    Nothing is opened but by a hard link, so nothing outside the file is touched.
    """
    seen = set()
    waiting = [("", root)]
    while waiting:
        place, group = waiting.pop()
        for name in group:
            inner = f"{place}/{name.decode('utf-8', 'replace')}"
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                yield inner, None
                continue
            item = h5py.h5o.open(group, name)
            found = h5py.h5o.get_info(item)
            if found.addr in seen:
                continue
            seen.add(found.addr)
            if isinstance(item, h5py.h5g.GroupID):
                waiting.append((inner, item))
            yield inner, item


def _require_own(item: h5py.h5d.DatasetID, place: str, *, name: str | Path) -> None:
    created = item.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL or created.get_external_count():
        raise _outside(name, place, what="takes its content from other files")
    filters = {created.get_filter(index)[0] for index in range(created.get_nfilters())}
    if filters - _FILTERS:
        raise _outside(name, place, what="is packed by a filter that would be loaded")


def _outside(name: str | Path, place: str, *, what: str) -> errors.DataError:
    return errors.DataError(
        f"'{name}': {place!r} {what}. A Keras model holds all that is its own; get it "
        "from another source. If you trust it, open it with allow_unsafe=True "
        "(--allow_unsafe)."
    )


class Array(NamedTuple):
    """An array of numbers in a file, not read."""

    name: str
    shape: tuple[int, ...]


def arrays(group: h5py.Group) -> list[Array]:
    """Returns the arrays of numbers in a group and below.

    Raises:
        ValueError: a dataset of anything but numbers.
    """
    found = []
    for place, item in _objects(group.id):
        if isinstance(item, h5py.h5d.DatasetID):
            _require_numbers(place, item)
            found.append(Array(place, item.shape))
    return found


def layer_arrays(group: h5py.Group) -> list[tuple[str, list[h5py.Dataset]]]:
    """Returns layer names and their arrays, as an `.h5` of Keras lists them.

    Args:
        group: the file, or its group `model_weights`.

    Raises:
        ValueError: a list that names what is not there, or no numbers.
    """
    found = []
    for layer in names(group, "layer_names"):
        part = group.get(layer)
        if not isinstance(part, h5py.Group):
            raise ValueError(f"Layer {layer!r} is listed, and not in the file.")
        listed = [part.get(weight) for weight in names(part, "weight_names")]
        found.append((layer, [_numbers(array) for array in listed]))
    return found


def names(group: h5py.Group, attribute: str) -> list[str]:
    """Returns a list of names; Keras splits one that is too long for an attribute."""
    if attribute in group.attrs:
        parts = [attribute]
    else:
        numbered = (f"{attribute}{index}" for index in itertools.count())
        parts = list(itertools.takewhile(group.attrs.__contains__, numbered))
        if not parts:
            raise ValueError(f"There is no '{attribute}': no weights of Keras.")
    found = []
    for part in parts:
        for name in np.atleast_1d(group.attrs[part]):
            text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            found.append(str(text))
    return found


def _numbers(item: object) -> h5py.Dataset:
    if not isinstance(item, h5py.Dataset):
        raise ValueError("An array of weights is listed, and not in the file.")
    _require_numbers(item.name, item.id)
    return item


def _require_numbers(name: str, item: h5py.h5d.DatasetID) -> None:
    dtype = item.dtype
    # Two bytes without a type are bfloat16.
    is_number = dtype.kind in _NUMBERS or (dtype.kind == "V" and dtype.itemsize == 2)
    if item.shape is None or not is_number or dtype.names or dtype.subdtype:
        raise ValueError(f"Array {name!r} holds {dtype}, no plain numbers.")
