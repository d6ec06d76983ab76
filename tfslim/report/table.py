"""The table of an export: one row a variant."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from tfslim import escape

Result = Mapping[str, Any]


def megabytes(size_bytes: int) -> str:
    """Formats a size: "46.75 MB" (10^6 bytes), "151.2 kB" below one MB."""
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.2f} MB"


def count(number: int | None) -> str:
    """Formats a count with its unit of thousands: "11.2 M", "560.1 k"."""
    if number is None:
        return "-"
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.2f} {unit}"
    return str(number)


def microseconds(value: float | None) -> str:
    """Formats a latency: "1.24 ms" from one millisecond on, else "87.0 us"."""
    if value is None:
        return "-"
    return f"{value / 1e3:.2f} ms" if value >= 1e3 else f"{value:.1f} us"


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
    lines = []
    base = None
    model = result["model"]
    for variant in all_rows(result):
        timing = variant.get("benchmark")
        latency = timing["latency"] if timing else {}
        p50 = latency.get("p50")
        base = base or p50
        lines.append(
            [
                variant["name"],
                megabytes(variant["size_bytes"]),
                megabytes(variant["gzip_bytes"]),
                count(variant.get("params", model["params"])),
                count(variant.get("macs", model["macs"])),
                figure(variant["metric"]),
                figure(variant["parity"]["agreement"] if "parity" in variant else None),
                microseconds(p50),
                microseconds(latency.get("p90")),
                f"{base / p50:.2f}x" if p50 and base else "-",
            ]
        )
    return lines


def all_rows(result: Result) -> list[Mapping[str, Any]]:
    """Returns the model before the steps, where there were any, and the variants."""
    original = result.get("original")
    return [*([original] if original else []), *result["variants"]]


def figure(value: float | None, form: str = ".4g") -> str:
    """Formats a metric, with four significant digits if not told otherwise."""
    return "-" if value is None else format(value, form)


def to_terminal(result: Result, file: TextIO | None = None) -> None:
    """Prints the table: framed on a terminal, plain aligned text elsewhere."""
    file = file or sys.stdout
    width = None if file.isatty() else 140
    console = Console(file=file, width=width, markup=False)
    table = Table(box=box.ROUNDED if file.isatty() else box.SIMPLE_HEAD)
    for index, title in enumerate(header(result)):
        table.add_column(
            escape.terminal(title),
            justify="left" if index == 0 else "right",
            no_wrap=True,
        )
    for line in rows(result):
        table.add_row(*map(escape.terminal, line))
    console.print(table)
    for text in remarks(result):
        console.print(escape.terminal(text), soft_wrap=True)


def remarks(result: Result) -> list[str]:
    """Returns what speaks against the figures, and what is not there."""
    failed = result.get("failed", {})
    timed = [row["benchmark"] for row in all_rows(result) if row.get("benchmark")]
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
