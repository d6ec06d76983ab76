"""The folder of one export: locked while it is written, whole once it has a manifest.

Whatever moment a job is killed at, the next one knows what it left: before a file is
written its name stands in a journal, which goes when the manifest is there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfslim import errors, files, manifest, quantization

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

MODEL = "model.keras"
CONFIG = "config.json"
RANGES = "ranges.json"
REPORT = "report.md"
RESULT = "result.json"
QUANTIZATION_AWARE = "int8_qat"
_JOURNAL = ".tfslim-export.json"
_OURS = (MODEL, CONFIG, REPORT, RANGES, RESULT, manifest.NAME)
# File systems, such as some of networks, that have no locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


def claim(folder: Path, overwrite: bool) -> None:
    """Raises ConfigError for a folder that holds results."""
    if folder.exists() and not folder.is_dir():
        raise errors.ConfigError(f"out_dir '{folder}' is a file, not a folder.")
    standing = [name for name in _OURS if (folder / name).exists()]
    standing += sorted(path.name for path in folder.glob("*.tflite"))
    if standing and not overwrite:
        is_whole = not (folder / _JOURNAL).exists()
        raise errors.ConfigError(
            f"{folder} already holds {standing[0]}"
            f"{'' if is_whole else ' of an export that did not end'}. Pass "
            "--overwrite (overwrite=True) to replace it, or choose another --out_dir."
        )


@contextlib.contextmanager
def taken(folder: Path, overwrite: bool, variants: Iterable[str]) -> Iterator[Folder]:
    """Makes the folder, and keeps other exports out of it until the block ends.

    Args:
        folder: where.
        overwrite: whether it may hold results.
        variants: names of those that are to be made.

    Raises:
        ConfigError: another export is writing there, or nothing can be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.callback(os.close, lock := os.open(folder, os.O_RDONLY))
            _lock(lock, folder)
            # What another job wrote meanwhile.
            claim(folder, overwrite)
            own = Folder(folder, variants)
            own.prepare()
        except OSError as error:
            raise errors.ConfigError(
                f"out_dir '{folder}' cannot be written to: {error.strerror}. Choose "
                "another."
            ) from error
        yield own


def _lock(descriptor: int, folder: Path) -> None:
    """Takes a lock that ends with this process, however it ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise errors.ConfigError(
            f"Another export is writing to '{folder}'. Wait for its end, or choose "
            "another --out_dir."
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


class Folder:
    """A folder that is ours alone to write to; `taken` makes it."""

    def __init__(self, path: Path, variants: Iterable[str]):
        """Takes the names of the variants that are to be made."""
        self._path = path
        self._planned = {*_OURS, *(f"{name}.tflite" for name in variants)}
        self._written: set[str] = set()

    def prepare(self) -> None:
        """Removes what killed jobs left half written, and tries to write."""
        recipes = [*quantization.recipe_names(), QUANTIZATION_AWARE]
        known = {*self._planned, *(f"{name}.tflite" for name in recipes), _JOURNAL}
        pattern = _temporary_names(known | self._standing())
        for path in list(self._path.iterdir()):
            if pattern.fullmatch(path.name):
                _remove(path)
        # As long as any that will be written: a name may be too long.
        longest = max(self._planned, key=lambda name: len(name.encode()))
        with tempfile.NamedTemporaryFile(prefix=f".{longest}.", dir=self._path):
            pass

    def _standing(self) -> set[str]:
        """Returns the files that earlier exports wrote, whether they ended or not."""
        names = set(manifest.read(self._path) or ())
        for name, key in ((_JOURNAL, "files"), (RESULT, "variants")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads((self._path / name).read_text(encoding="utf-8"))
                names |= {_name_of(entry) for entry in content[key]}
        return names

    def start(self) -> None:
        """Removes the results of an earlier export; only files that it names are ours.

        Its manifest and result go last: until then they say what was there.
        """
        standing = self._standing()
        files.write_json(
            self._path / _JOURNAL, {"files": sorted(standing | self._planned)}
        )
        last = (RESULT, manifest.NAME)
        # The model is replaced next: should that fail, there is still the old one.
        first = (standing | {CONFIG, REPORT, RANGES}) - {MODEL, *last}
        for name in (*sorted(first), *last):
            path = self._path / name
            if not path.is_dir():
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields a path to write to; its file gets its name if the block succeeds."""
        with files.naming(self._path / name):
            place = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=self._path))
            try:
                yield place / name
                with (place / name).open("rb") as file:
                    os.fsync(file.fileno())
                (place / name).replace(self._path / name)
            finally:
                shutil.rmtree(place, ignore_errors=True)
        self._written.add(name)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file of the result."""
        files.write_bytes(self._path / name, data)
        self._written.add(name)

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the result as UTF-8."""
        self.write_bytes(name, text.encode("utf-8"))

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of the result as JSON."""
        files.write_json(self._path / name, value)
        self._written.add(name)

    def write_ranges(self, calibration: Any, float_file: bytes) -> None:
        """Writes what `--ranges` takes again."""
        quantization.write_ranges(self._path / RANGES, calibration, float_file)
        self._written.add(RANGES)

    def finish(self) -> None:
        """Writes the manifest: from here on the folder is one whole result."""
        manifest.write(self._path, self._written)
        (self._path / _JOURNAL).unlink(missing_ok=True)


def _name_of(entry: Any) -> str:
    """Returns the file that a line of a journal or of a result names."""
    return Path(entry if isinstance(entry, str) else entry["file"]).name


def _temporary_names(names: Iterable[str]) -> re.Pattern[str]:
    """Matches what `tempfile` makes of our prefixes."""
    known = "|".join(map(re.escape, sorted(names)))
    return re.compile(rf"\.(?:{known})\.[a-z0-9_]{{8}}|\.model\.building\.keras")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
