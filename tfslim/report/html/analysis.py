"""The page of `tfslim analyze`: where the time goes and what would help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfslim.report import analysis_table, folders, formats
from tfslim.report.html import charts, rendering

_TITLES = [
    ("#", "number"),
    ("op", "text"),
    ("layer", "text"),
    ("params", "number"),
    ("MACs", "number"),
    ("MAC/B", "number"),
    ("time", "number"),
    ("share", "number"),
    ("bound", "text"),
]


def analysis_to_html(found: Mapping[str, Any]) -> str:
    """Returns the page of one analysis.

    Args:
        found: as `tfslim analyze --json` writes it.
    """
    chart = charts.ops(found["ops"])
    return rendering.render(
        "analysis.html",
        title=found["model"],
        sections=analysis_table.sections(found),
        charts=[] if chart is None else [chart],
        titles=_TITLES,
        rows=[_row(row) for row in found["ops"]],
        command=folders.command(),
    )


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    work = row["work"]
    share = None if row["share"] is None else f"{row['share']:.0%}"
    layer = row["layer"] or row["tensor"]
    cells = [
        (row["op"], row["op"]),
        (layer, layer),
        (formats.count(work["params"]), work["params"]),
        (formats.count(work["macs"]), work["macs"]),
        (formats.figure(row["intensity"], ".1f"), row["intensity"]),
        (formats.microseconds(row["us"]), row["us"]),
        (share or "-", row["share"]),
        (row["bound"] or "-", row["bound"] or ""),
    ]
    return {
        "name": str(row["index"]),
        "is_best": False,
        "cells": [
            {"text": text, "value": "" if value is None else value}
            for text, value in cells
        ],
    }
