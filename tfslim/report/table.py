"""The table of an export: one row a variant."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from tfslim import escape
from tfslim.report import formats, verdict
from tfslim.report import rows as rows_lib
from tfslim.report.formats import count as count
from tfslim.report.formats import figure as figure
from tfslim.report.rows import all_rows as all_rows

Result = Mapping[str, Any]
megabytes = formats.size
# Of a log, an issue or a narrow terminal.
_WIDTH = 80


def header(result: Result) -> list[str]:
    """Returns the column titles for `result`."""
    task = result["task"]
    return [
        "variant",
        "size",
        "gzip",
        "params",
        "MACs",
        task["metric"],
        task["agreement"],
        "latency p50",
        "p90",
        "speed-up",
    ]


def rows(result: Result) -> list[list[str]]:
    """Returns one row of text a variant, in the columns of `header`.

    The model before the steps that made it smaller comes first, if there were any. The
    speed-up is against the first row that was timed.
    """
    return [
        [
            row.name,
            formats.size(row.size_bytes),
            formats.size(row.gzip_bytes),
            formats.count(row.params),
            formats.count(row.macs),
            formats.figure(row.metric),
            formats.figure(row.agreement),
            formats.microseconds(row.p50_us),
            formats.microseconds(row.p90_us),
            "-" if row.speed_up is None else f"{row.speed_up:.2f}x",
        ]
        for row in rows_lib.of_result(result)
    ]


def to_terminal(result: Result, file: TextIO | None = None) -> None:
    """Prints the table, at most 80 columns wide, and the verdict."""
    file = file or sys.stdout
    width = None if file.isatty() else _WIDTH
    console = Console(file=file, width=width, markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles, lines = compact(result)
    for index, title in enumerate(titles):
        table.add_column(
            escape.terminal(title),
            justify="left" if index == 0 else "right",
            overflow="fold",
            no_wrap=index > 0 and " " not in title,
        )
    for line in lines:
        table.add_row(*map(escape.terminal, line))
    console.print(table)
    for text in [*_legend(lines), *verdict.sentences(result), *remarks(result)]:
        console.print(escape.terminal(text), soft_wrap=not file.isatty())


def _legend(lines: Sequence[Sequence[str]]) -> list[str]:
    cells = [cell for line in lines for cell in line[1:]]
    marks = {
        "~ not told apart from noise": any(cell.startswith("~") for cell in cells),
        "* not a valid figure": any(cell.endswith("*") for cell in cells),
    }
    used = [text for text, is_used in marks.items() if is_used]
    return [f"{'; '.join(used)}."] if used else []


def compact(result: Result) -> tuple[list[str], list[list[str]]]:
    """Returns titles and lines of the table for 80 columns.

    The model as given comes first. "~" stands before a speed-up that is not told apart
    from noise, "*" behind a time that is no valid figure.
    """
    rows = rows_lib.of_result(result)
    has_metric = any(row.metric is not None for row in rows)
    is_timed = any(row.p50_us for row in rows)
    titles = ["variant", "size"]
    quality = result["task"]["metric" if has_metric else "agreement"]
    change = "change [95%]" if any(row.change for row in rows) else "change"
    titles += [quality, *([change] if has_metric else [])]
    titles += ["latency", "speed"] if is_timed else []
    lines = []
    for row in rows:
        line = [row.name, formats.size(row.size_bytes)]
        line.append(formats.figure(row.metric if has_metric else row.agreement))
        line += [change_cell(row, rows[0])] if has_metric else []
        line += _timing(row) if is_timed else []
        lines.append(line)
    return titles, lines


def change_cell(row: rows_lib.Row, base: rows_lib.Row) -> str:
    """Returns the change in percentage points, or that of another metric as it is."""
    if row is base:
        return "as given"
    if row.change is not None:
        low, high = (formats.points(row.change[end]) for end in ("low", "high"))
        return f"{formats.points(row.change['change'])} [{low}, {high}]"
    if row.metric is None or base.metric is None:
        return "-"
    return f"{row.metric - base.metric:+.3g}"


def _timing(row: rows_lib.Row) -> list[str]:
    if row.p50_us is None:
        return ["-", "-"]
    mark = "*" if row.invalid else ""
    about = "~" if row.comparison and not row.is_told_apart else ""
    return [
        f"{formats.microseconds(row.p50_us)}{mark}",
        f"{about}{row.speed_up:.2f}x{mark}",
    ]


def remarks(result: Result) -> list[str]:
    """Returns what speaks against the figures, and what is not there."""
    failed = result.get("failed", {})
    timed = [
        row["benchmark"] for row in rows_lib.all_rows(result) if row.get("benchmark")
    ]
    # Of each kind one reason: they differ in a number from file to file.
    doubts: dict[str, str] = {}
    for one in timed:
        doubts = {**one.get("invalid", {}), **doubts}
    invalid = f"The latencies are not valid figures: {' '.join(doubts.values())}"
    return [
        *([invalid] if doubts else []),
        *(f"Warning: {warning}" for warning in result.get("warnings", ())),
        *(f"{name} could not be made: {reason}" for name, reason in failed.items()),
    ]


def markdown_table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table: first column left, the others right aligned."""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [titles, rule, *lines])
