"""The table of a verification: one row for each file and consumer."""

from __future__ import annotations

import operator
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
_FIGURES = _TITLES[3:6]
# Of a log, an issue or a narrow terminal.
_WIDTH = 80


def consumers_to_terminal(matrix: Matrix, file: TextIO | None = None) -> None:
    """Prints a table a file, at most 80 columns wide, what else there is below it."""
    file = file or sys.stdout
    width = None if file.isatty() else _WIDTH
    console = Console(file=file, width=width, highlight=False, markup=False)
    for variant, rows in matrix.items():
        lines = [
            [*map(escape.terminal, cells[1:])] for cells in _lines({variant: rows})
        ]
        if len(matrix) > 1:
            console.print(escape.terminal(variant))
        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for column, title in enumerate(_TITLES[1:-1]):
            words = [word for cells in lines for word in cells[column].split()]
            shown.add_column(
                title,
                justify="right" if title in _FIGURES else "left",
                # Titles break before names do.
                min_width=max(map(len, [*title.split(), *words])),
            )
        for cells in lines:
            shown.add_row(*cells[:-1])
        console.print(shown)
        for cells in filter(operator.itemgetter(-1), lines):
            note = f"{cells[0]}: {cells[-1]}"
            console.print(note, soft_wrap=not file.isatty())


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
