"""The folder of one export: locked while it is written, whole once it has a manifest.

Whatever moment a job is killed at, the next one knows what it left: before a file is
written its name stands in a journal, which goes when the manifest is there. Nothing
else is written beside the results: all of it is made in a folder for scratch.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
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
PAGE = "report.html"
EXTRAS = "report_extras.json"
RESULT = "result.json"
QUANTIZATION_AWARE = "int8_qat"
_JOURNAL = ".tfslim-export.json"
_SCRATCH = ".tfslim-export."
_OURS = (MODEL, CONFIG, REPORT, PAGE, EXTRAS, RANGES, RESULT, manifest.NAME)
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
            "--overwrite (overwrite=True) to replace it, or choose another --out."
        )


@contextlib.contextmanager
def taken(
    folder: Path, overwrite: bool, *, variants: Iterable[str]
) -> Iterator[Folder]:
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
            is_new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(folder))
            # What another job wrote meanwhile.
            claim(folder, overwrite)
            own = Folder(folder, variants)
            stack.callback(own.leave, is_new)
            own.prepare()
        except OSError as error:
            raise errors.ConfigError(
                f"out_dir '{folder}' cannot be written to: {error.strerror}. Choose "
                "another."
            ) from error
        yield own


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a lock that ends with this process, however it ends."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise errors.ConfigError(
            f"Another export is writing to '{folder}'. Wait for its end, or choose "
            "another --out."
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(descriptor)
            raise
    try:
        yield
    finally:
        os.close(descriptor)


class Folder:
    """A folder that is ours alone to write to; `taken` makes it.

    Attributes:
        had_results: whether `start` removed results of an earlier export.
    """

    def __init__(self, path: Path, variants: Iterable[str]):
        """Takes the names of the variants that are to be made."""
        self._path = path
        self._planned = {*_OURS, *(f"{name}.tflite" for name in variants)}
        self._scratch = path
        self._written: set[str] = set()
        self._journaled: set[str] = set()
        self.had_results = False

    def prepare(self) -> None:
        """Removes what killed jobs left half written, and tries to write.

        Raises:
            ConfigError: a folder stands where a file of the results will.
        """
        for name in sorted(self._planned):
            if (self._path / name).is_dir():
                raise errors.ConfigError(
                    f"{self._path} has a folder called {name}, as a file of the "
                    "results will be. Move it, or choose another --out."
                )
        self.clean()
        # One of its own, as other programs may write to the folder, too.
        self._scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._path))
        # As long as any that will be written: a name may be too long.
        (self._scratch / max(self._planned, key=lambda n: len(n.encode()))).touch()

    def clean(self) -> None:
        """Removes what is half written, by this job or one that was killed."""
        for path in self._path.glob(f"{_SCRATCH}*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def leave(self, is_new: bool) -> None:
        """Cleans up; where no result stands, nothing is left, nor a new folder."""
        self.clean()
        is_bare = not any((self._path / name).exists() for name in self._journaled)
        if self._journaled and is_bare:
            (self._path / _JOURNAL).unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):  # It holds something.
                self._path.rmdir()

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
        # Those that are planned go, too: one that cannot be made must not leave a
        # file that nobody named beside the new report.
        found = self._standing()
        self.had_results = bool(found)
        standing = found | self._planned
        self._journal(standing)
        last = (RESULT, manifest.NAME)
        # The model is replaced next: should that fail, there is still the old one.
        first = standing - {MODEL, *last}
        for name in (*sorted(first), *last):
            path = self._path / name
            if not path.is_dir():
                path.unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Tells whether this job wrote a file of that name."""
        return name in self._written

    def _journal(self, names: set[str]) -> None:
        self._journaled |= names
        with self._placing(_JOURNAL) as path:
            files.write_json(path, {"files": sorted(self._journaled)})

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields a path to write to; its file gets its name if the block succeeds."""
        if name not in self._journaled:
            self._journal({name})
        with self._placing(name) as path:
            yield path
        self._written.add(name)

    @contextlib.contextmanager
    def _placing(self, name: str) -> Iterator[Path]:
        try:
            yield self._scratch / name
            with (self._scratch / name).open("rb") as file:
                os.fsync(file.fileno())
            (self._scratch / name).replace(self._path / name)
        except OSError as error:
            # A full disk names no file, and others name the one in our scratch.
            number, reason = error.errno or errno.EIO, error.strerror or str(error)
            raise OSError(number, reason, str(self._path / name)) from error

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file of the result."""
        with self.writing(name) as path:
            path.write_bytes(data)

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the result as UTF-8."""
        with self.writing(name) as path:
            files.write_text(path, text)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of the result as JSON."""
        with self.writing(name) as path:
            files.write_json(path, value)

    def write_ranges(self, calibration: Any, float_file: bytes) -> None:
        """Writes what `--ranges` takes again."""
        with self.writing(RANGES) as path:
            quantization.write_ranges(path, calibration, model=float_file)

    def finish(self) -> None:
        """Writes the manifest: from here on the folder is one whole result."""
        with self._placing(manifest.NAME) as path:
            manifest.write(self._path, self._written, to=path)
        (self._path / _JOURNAL).unlink(missing_ok=True)


def _name_of(entry: Any) -> str:
    """Returns the file that a line of a journal or of a result names."""
    return Path(entry if isinstance(entry, str) else entry["file"]).name
