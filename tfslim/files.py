"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfslim import errors


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Adds `path` to an OSError that names none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        number, reason = error.errno or errno.EIO, error.strerror or str(error)
        raise OSError(number, reason, str(path)) from error


def write_bytes(path: Path | str, data: bytes) -> None:
    """Writes `data` to `path` by way of a temporary name in the same folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes a private file; a result is as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON to `path`, whole or not at all.

    Numbers that are not finite become null: JSON has none.
    """
    text = json.dumps(_finite(value), indent=2, sort_keys=False, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def require_writable(path: Path | str, option: str) -> None:
    """Checks that `write_bytes` can put a file at `path`, its folder included.

    Args:
        path: where.
        option: by which the user named it.

    Raises:
        ConfigError: it cannot.
    """
    path = Path(path)
    folder = next(f for f in path.absolute().parents if f.exists())
    reason = ""
    if path.is_dir():
        reason = "it is a folder"
    elif not folder.is_dir():
        reason = f"'{folder}' is no folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"'{folder}' may not be written to"
    if reason:
        raise errors.ConfigError(
            f"{option} '{path}' cannot be written: {reason}. Choose another."
        )


def make_folder(path: Path | str, option: str) -> None:
    """Makes a folder, unless it is there.

    Args:
        path: where.
        option: by which the user named it.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.ConfigError(
            f"{option} '{path}' cannot be made ({error.strerror}). Choose another."
        ) from error


@contextlib.contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yields a new folder that becomes `path` if the block ends without an error.

    What stood at `path` before is replaced only then; after an error it stands
    untouched and the new folder is gone.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield building
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.replace(old)
        umask = os.umask(0)
        os.umask(umask)
        building.chmod(0o777 & ~umask)
        try:
            building.replace(path)
        except OSError:
            if old is not None:
                old.replace(path)
            raise
        if old is not None:
            shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
