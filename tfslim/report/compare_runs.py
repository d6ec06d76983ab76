"""Runs held against each other: what their files to take differ in."""

from __future__ import annotations

from collections.abc import Mapping

from tfslim import evaluation
from tfslim.report import formats, verdict
from tfslim.report.rows import Result, Row, all_rows


def sentences(results: Mapping[str, Result]) -> list[str]:
    """Compares the file to take of each run with that of the first run.

    Which examples a file of another run answers rightly is not known, only how many:
    the intervals are Clopper-Pearson's, wider than those within a run.

    Args:
        results: name of a run -> content of its `result.json`.
    """
    best = {name: verdict.recommended(result) for name, result in results.items()}
    (first, base), *others = best.items()
    if base is None:
        return []
    return [
        f"{row.name} of {name} against {base.name} of {first}: "
        f"{_size(row, base)}"
        f"{_accuracy(results[name], row, base_result=results[first], base=base)}."
        for name, row in others
        if row is not None
    ]


def _size(row: Row, base: Row) -> str:
    ratio = row.size_bytes / base.size_bytes
    return f"{ratio:.2f}x the size" if ratio != 1 else "the same size"


def _accuracy(result: Result, row: Row, *, base_result: Result, base: Row) -> str:
    if row.metric is None or base.metric is None:
        return ""
    number, base_number = (
        (one.change or {}).get("num_examples") for one in (row, base)
    )
    is_same = result["data"] == base_result["data"] and number == base_number
    if number is None or not is_same:
        return (
            f", {result['task']['metric']} {formats.figure(row.metric)} against "
            f"{formats.figure(base.metric)}, on data that cannot be compared"
        )
    change = evaluation.counted_change(
        round(base.metric * number), round(row.metric * number), num_examples=number
    )
    return f", accuracy {verdict.change_text(change.to_json())}"


def machines(results: Mapping[str, Result]) -> list[str]:
    """Says where times of different runs were taken on different machines."""
    seen = {
        row["benchmark"]["environment"].get("cpu")
        for result in results.values()
        for row in all_rows(result)
        if row.get("benchmark")
    }
    note = "Times of different runs were taken at different moments"
    if len(seen) > 1:
        note += " and on different machines"
    return [f"{note}: for a verdict, time the files together (tfslim benchmark)."]
