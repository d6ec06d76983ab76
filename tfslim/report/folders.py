"""What a folder of results holds for its page."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfslim import errors, files
from tfslim.report.rows import Result

PAGE, EXTRAS, RESULT = "report.html", "report_extras.json", "result.json"
_SCHEMA_VERSION = 1
# Files of an export that an app takes as they are.
_CODE = (".txt", ".kt", ".swift", ".java", ".py")
_MOST_CODE = 100_000

Run = tuple[Result, Mapping[str, Any]]


def read(paths: Sequence[Path]) -> dict[str, Run]:
    """Reads the results and extras of folders, by the folders' names as given.

    Raises:
        ConfigError: a folder holds no result that this tfslim can read, or is given
            twice.
    """
    runs: dict[str, Run] = {}
    for path in paths:
        if str(path) in runs:
            raise errors.ConfigError(f"'{path}' was given twice. Name each run once.")
        runs[str(path)] = _result(path), extras(path)
    return runs


def extras(path: Path) -> dict[str, Any]:
    """Returns what `html.to_html` shows beside the result."""
    found = _json(path / EXTRAS) if (path / EXTRAS).exists() else {}
    code = {
        file.name: files.read_text(file)
        for file in sorted(path.glob("*"))
        if file.suffix in _CODE and file.stat().st_size <= _MOST_CODE
    }
    return {**found, "code": code}


def command() -> str:
    """Returns the command line of tfslim; "" in a user's own program."""
    program = Path(sys.argv[0])
    if program.name == "tfslim" or program.parts[-2:] == ("tfslim", "__main__.py"):
        return shlex.join(["tfslim", *sys.argv[1:]])
    if program.parent.name == "tfslim":
        return shlex.join(["tfslim", program.stem, *sys.argv[1:]])
    return ""


def _result(path: Path) -> Result:
    result = _json(path / RESULT)
    version = result.get("schema_version")
    if version != _SCHEMA_VERSION or "variants" not in result:
        raise errors.ConfigError(
            f"'{path / RESULT}' is of schema {version}; this tfslim reads schema "
            f"{_SCHEMA_VERSION}. Export again."
        )
    return result


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(files.read_text(path))
    except OSError as error:
        raise errors.ConfigError(
            f"'{path}' cannot be read: {error.strerror}. Name a folder that an export "
            "wrote."
        ) from error
    except (ValueError, RecursionError) as error:
        raise errors.ConfigError(f"'{path}' is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise errors.ConfigError(f"'{path}' holds no result of an export.")
    return content
