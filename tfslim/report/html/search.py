"""What was tried on the way to a file: trials of a search, layers back in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfslim.report import formats
from tfslim.report.html import charts
from tfslim.report.rows import Result

_TITLES = [
    ("trial", "text"),
    ("metric", "number"),
    ("latency", "number"),
    ("predicted", "number"),
    ("size", "number"),
    ("within the budget", "text"),
]


def front(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the plot and the table of a search.

    Args:
        found: the content of `optimize.json`.
    """
    rows = [_row(f"baseline, {name}", row) for name, row in found["baseline"].items()]
    rows += [_row(row["candidate"]["name"], row) for row in found["trials"]]
    rows += [_row(f"{row['folder']}, trained fully", row) for row in found["final"]]
    return {"chart": charts.front(found), "titles": _TITLES, "rows": rows}


def _row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    predicted = row.get("candidate", {}).get("predicted", {}).get("latency_us")
    missed = [limit for limit, met in row.get("meets", {}).items() if not met]
    told = f"misses {', '.join(missed)}" if missed else "yes"
    cells = [
        (formats.figure(row["metric"]), row["metric"]),
        (formats.microseconds(row["latency_us"]), row["latency_us"]),
        (formats.microseconds(predicted), predicted),
        (formats.size(row["size_bytes"]), row["size_bytes"]),
        (told, told) if "meets" in row else ("-", ""),
    ]
    return {
        "name": name,
        "is_best": False,
        "cells": [
            {"text": text, "value": "" if value is None else value}
            for text, value in cells
        ],
    }


def fallbacks(result: Result) -> list[list[str]]:
    """Returns the files that --max_drop tried: variant, layer, metric and size."""
    return [
        [
            variant["name"],
            step["layer"] or "(all in INT8)",
            formats.figure(step["metric"]),
            formats.size(step["size_bytes"]),
        ]
        for variant in result["variants"]
        for step in variant.get("fallback", ())
    ]
