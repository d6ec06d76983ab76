"""An earlier run to hold a new one against, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfslim import errors, files
from tfslim.benchmark.comparison import Comparison
from tfslim.benchmark.result import BenchmarkResult

# Figures taken under other ones of these say nothing about the file.
_SAME = ("device", "cpu", "cpu_features", "serial", "abi")

Row = tuple[BenchmarkResult, Comparison | None]


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns what `--json` writes and `--baseline` reads."""
    return {"schema_version": 1, "rows": [row_to_json(row) for row in rows]}


def row_to_json(row: Row) -> dict[str, Any]:
    """Returns one row as the report takes it."""
    result, comparison = row
    return {
        "result": result.to_json(),
        "comparison": comparison and comparison.to_json(),
    }


def read(path: Path) -> list[BenchmarkResult]:
    """Reads the results of an earlier run.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    written = files.read_given(path, "The baseline")
    try:
        found = [row["result"] for row in json.loads(written)["rows"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise errors.ConfigError(
            f"'{path}' holds no benchmark results. Write one with: python -m "
            "tfslim.benchmark old.tflite --json=old.json"
        ) from error
    return [BenchmarkResult.from_json(result) for result in found]


def match(result: BenchmarkResult, old: Sequence[BenchmarkResult]) -> BenchmarkResult:
    """Finds the earlier result to hold `result` against.

    It has the same runner, threads and delegate, and the same name if several have.

    Raises:
        ConfigError: there is none, several, or it was taken on another machine.
    """
    same = [before for before in old if _kind(before) == _kind(result)]
    named = [before for before in same if before.name == result.name]
    found = named or same
    if len(found) != 1:
        names = ", ".join(before.name for before in found) or "none"
        raise errors.ConfigError(
            f"The baseline must have one result to hold '{result.name}' against, with "
            f"the same name or as the only one with {_text(result)}; it has: {names}."
        )
    here, there = result.environment, found[0].environment
    for field in _SAME:
        if field in there and here.get(field) != there[field]:
            raise errors.ConfigError(
                f"The baseline was taken with {field} '{there.get(field)}', this run "
                f"with '{here.get(field)}': they cannot be compared. Pass the old file "
                "itself, --baseline=old.tflite, to run both here."
            )
    return found[0]


def _kind(result: BenchmarkResult) -> tuple[Any, ...]:
    options = result.options
    return (
        result.runner,
        result.environment.get("serial"),
        options.num_threads,
        options.delegate,
    )


def _text(result: BenchmarkResult) -> str:
    options = result.options
    return (
        f"{options.num_threads} thread(s) and delegate {options.delegate} "
        f"({result.runner})"
    )
