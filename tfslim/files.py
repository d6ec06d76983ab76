"""Files that appear whole or not at all, and the reading of what a user names."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfslim import errors

# Short, and not made of the file's own name, which may be as long as a name can be.
_TEMPORARY = ".tfslim."
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def read_bytes(path: Path | str) -> bytes:
    """Reads a file that the user named.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe would be waited for
            and a device may never end.
    """
    require_regular(path)
    return Path(path).read_bytes()


def read_text(path: Path | str) -> str:
    """Reads a file of UTF-8 that the user named, as `read_bytes` does."""
    return read_bytes(path).decode("utf-8")


def require_regular(path: Path | str) -> None:
    """Raises OSError unless a file of the ordinary kind stands at `path`."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for fits, name in _KINDS if fits(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def write_bytes(path: Path | str, data: bytes) -> None:
    """Writes `data` to `path` by way of a temporary name in the same folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    with _named(path):
        # The mode is what the umask leaves of it, as for any other file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(temporary, flags, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _beside(path: Path) -> Path:
    """Returns a new name in the folder of `path`."""
    return path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Gives the errors of a disk the path that they do not name themselves."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_DISKS and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def read_given(path: Path | str, what: str = "") -> bytes:
    """Reads a file that a user named.

    Args:
        path: of the file.
        what: it is, for the message: "The baseline".

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name.
        reason = getattr(error, "strerror", None) or error
        name = f"{what} '{path}'" if what else f"'{path}'"
        raise errors.ConfigError(f"{name} cannot be read: {reason}.") from error


def write_text(path: Path | str, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all."""
    # Names of files may hold bytes that are no text.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


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


def in_folder(out: str | None, *, default: Path) -> Path:
    """Returns the file that `--out` names: itself, or one in the folder that it is.

    Args:
        out: as typed; None: `default` itself. What has no suffix is a folder.
        default: the file where nothing is named, whose name it has in a folder.
    """
    if not out:
        return default
    path = Path(out)
    if not path.suffix or out.endswith(("/", os.sep)):
        return path / default.name
    return path


def require_writable(path: Path | str, option: str) -> None:
    """Checks that `write_bytes` can put a file at `path`, its folder included.

    Args:
        path: where.
        option: by which the user named it.

    Raises:
        ConfigError: it cannot.
    """
    path = Path(path)
    reason = _obstacle(path)
    if reason:
        raise errors.ConfigError(
            f"{option} '{path}' cannot be written: {reason}. Choose another."
        )


def _obstacle(path: Path) -> str:
    """Returns why no file can be put at `path`, "" if nothing speaks against it."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # A name too long, or with a null byte.
        return getattr(error, "strerror", None) or str(error)
    folder = next(f for f in path.absolute().parents if f.exists())
    if path.is_dir():
        return "it is a folder"
    if not folder.is_dir():
        return f"'{folder}' is no folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"'{folder}' may not be written to"
    return ""


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
def locked(path: Path | str) -> Iterator[None]:
    """Lets one process at a time into the block; the empty file stays."""
    import fcntl  # Not on Windows, where no command comes here.

    with Path(path).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yields a new folder that becomes `path` if the block ends without an error.

    What stood at `path` before is replaced only then; after an error it stands
    untouched and the new folder is gone.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = _beside(path)
    building.mkdir()
    try:
        with _named(path):
            yield building
        old = None
        if path.exists():
            old = _beside(path)
            path.replace(old)
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
