"""The table of a verification: one row for each file and consumer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from tfslim import escape
from tfslim.report.table import markdown_table

# File -> consumer -> row, as `consumers.matrix` returns it.
Matrix = Mapping[str, Mapping[str, Mapping[str, Any]]]

_TITLES = (
    "file",
    "consumer",
    "verdict",
    "largest error",
    "worst column",
    "same class",
    "fully accelerated",
    "what else",
)


def consumers_to_terminal(matrix: Matrix, file: TextIO | None = None) -> None:
    """Prints the table."""
    file = file or sys.stdout
    console = Console(
        file=file, width=None if file.isatty() else 200, highlight=False, markup=False
    )
    shown = Table(box=box.ROUNDED if file.isatty() else box.SIMPLE_HEAD)
    for column, title in enumerate(_TITLES):
        shown.add_column(title, justify="right" if column in (3, 4, 5) else "left")
    for cells in _lines(matrix):
        shown.add_row(*map(escape.terminal, cells))
    console.print(shown)


def consumers_to_markdown(matrix: Matrix) -> str:
    """Returns the table as Markdown."""
    lines = [[escape.markdown(cell) for cell in cells] for cells in _lines(matrix)]
    return markdown_table(_TITLES, lines)


def table(matrix: Matrix) -> list[list[str]]:
    """Returns the titles, and a row for each file and consumer."""
    return [list(_TITLES), *_lines(matrix)]


def _lines(matrix: Matrix) -> list[list[str]]:
    return [
        _cells(variant, name, against=against, row=row)
        for variant, rows in matrix.items()
        for name, row in rows.items()
        for against in (row["against"] or {"": None})
    ]


def _cells(
    variant: str, name: str, *, against: str, row: Mapping[str, Any]
) -> list[str]:
    figures = row["against"].get(against)
    verdict, what = row["status"], [row["reason"], *row["fell_back"]]
    if figures is not None and against != "interpreter":
        name = f"{name}, against {against}"
        verdict = "wrong" if figures["reason"] else "right"
        what = [figures["reason"]]
    full = {None: "", True: "yes", False: "no"}[row["is_fully_accelerated"]]
    return [variant, name, verdict, *_figures(figures), full, _joined(what)]


def _figures(figures: Mapping[str, Any] | None) -> list[str]:
    if figures is None:
        return ["", "", ""]
    share, db = figures["agreement"], figures["sqnr_db"]
    return [
        f"{figures['max_abs_error']:.2g}",
        "equal" if db >= 200 else f"{db:.1f} dB",
        "" if share is None else f"{share:.1%}",
    ]


def _joined(texts: list[str]) -> str:
    return "; ".join(text for text in texts if text)
