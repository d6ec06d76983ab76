"""`manifest.json`: what a folder of results must hold, byte for byte.

It is written last. A folder without one, or with files that differ from it, is not
one whole result: the export that wrote there was killed, failed or is still at work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from tfslim import errors, files

NAME = "manifest.json"
_VERSION = 1


def write(
    folder: Path | str, names: Iterable[str], *, to: Path | str | None = None
) -> None:
    """Writes the manifest of the files called `names` in `folder`, there or to `to`."""
    entries = {}
    for name in sorted(names):
        path = Path(folder) / name
        entries[name] = {"sha256": _sha256(path), "size_bytes": path.stat().st_size}
    content = {"version": _VERSION, "files": entries}
    files.write_json(Path(folder) / NAME if to is None else to, content)


def verify(folder: Path | str) -> None:
    """Checks that a folder holds one whole result.

    Files that the manifest does not name are the user's own and do not matter.

    Raises:
        VerificationError: there is no manifest, or a file is missing or another one.
    """
    folder = Path(folder)
    entries = read(folder)
    if entries is None:
        raise errors.VerificationError(
            f"'{folder}' is not a whole result: it has no readable {NAME}. Export "
            "again with --overwrite."
        )
    for name, entry in entries.items():
        path = folder / name
        state = "missing"
        if path.is_file():
            if _sha256(path) == entry:
                continue
            state = "not the file that the manifest names"
        raise errors.VerificationError(
            f"'{folder}' is not a whole result: {name} is {state}. Export again with "
            "--overwrite."
        )


def read(folder: Path | str) -> dict[str, str] | None:
    """Returns file name -> SHA-256; None without a manifest that can be read.

    A name that leads out of the folder is left out.
    """
    try:
        content = json.loads((Path(folder) / NAME).read_text(encoding="utf-8"))
        return {
            name: str(entry["sha256"])
            for name, entry in content["files"].items()
            if Path(name).name == name
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
