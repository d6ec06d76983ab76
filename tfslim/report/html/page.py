"""The page: from the content of `result.json` and optional extras to one HTML file.

Extras are what `result.json` does not hold; all are optional:

- "command": the command line, as it was typed.
- "samples": pictures with the answers of the float and the INT8 file: "title", "image"
  (a data URI of a PNG or JPEG), "label" (the right answer, if known), and "float" and
  "int8", each with "answer", "score" and, for a detector, "boxes": "box" (x1, y1, x2,
  y2 as shares of the picture), "label", "score".
- "layers": the cost of each layer, "name", "before", "after" in microseconds, or with
  the "unit" "MACs".
- "histograms": "name", "edges", "counts", "thresholds" (label -> [low, high]).
- "gammas": the same of BatchNormalization scales.
- "front": the content of `optimize.json` of the search that made the result.
- "sensitivity": "layer" and "sqnr_db" of each layer, alone in INT8.
- "consumers": "columns" (programs) and "rows", each with "name" and "cells".
- "code": file name -> text, for the app.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import errors
from tfslim.report import compare_runs, consumers_table, formats, table, verdict
from tfslim.report.html import charts, rendering, search
from tfslim.report.rows import Result, Row, file_preprocessing, of_result

MOST_BYTES = 3_000_000
_IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*")
_MOST_SENSITIVE = 25


def to_html(result: Result, extras: Mapping[str, Any] | None = None) -> str:
    """Returns the page of one result.

    Args:
        result: the content of `result.json`.
        extras: see the module.

    Raises:
        ConfigError: an extra is not what it should be.
    """
    return compare_to_html({"": (result, extras or {})})


def compare_to_html(runs: Mapping[str, tuple[Result, Mapping[str, Any]]]) -> str:
    """Returns the page of several results, with all their files in one table.

    Args:
        runs: name of a run -> its result and extras, as `to_html` takes them.

    Raises:
        ConfigError: there is no run, or an extra is not what it should be.
    """
    if not runs:
        raise errors.ConfigError("No run was given: there is nothing to show.")
    views = [_view(name, *run) for name, run in runs.items()]
    results = {name: result for name, (result, _) in runs.items()}
    between = compare_runs.sentences(results) + compare_runs.machines(results)
    titles = _known_columns(_titles(views), views)
    while True:
        page = rendering.render(
            "page.html",
            title=views[0]["model"]["name"]
            if len(views) == 1
            else f"{len(views)} runs",
            runs=views,
            between=between,
            titles=titles,
        )
        longest = max(views, key=lambda view: len(view["samples"]))
        if len(page.encode()) <= MOST_BYTES or not longest["samples"]:
            return page
        longest["samples"].pop()


def _titles(views: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Returns the columns of the table: title and kind."""
    metrics = {view["metric"] for view in views}
    run = [("run", "text")] if len(views) > 1 else []
    metric = metrics.pop() if len(metrics) == 1 else "metric"
    numbers = [
        "size",
        metric,
        "change",
        "latency",
        "speed-up",
        "p90",
        views[0]["agreement"],
        "SQNR",
        "gzip",
        "params",
        "MACs",
    ]
    return [("variant", "text"), *run, *((title, "number") for title in numbers)]


def _known_columns(
    titles: Sequence[tuple[str, str]], views: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Drops the columns of which nothing is known, from the rows as well."""
    rows = [row for view in views for row in view["rows"]]
    known = [
        any(row["cells"][index]["value"] != "" for row in rows)
        for index in range(len(titles) - 1)
    ]
    for row in rows:
        row["cells"] = list(itertools.compress(row["cells"], known))
    return list(itertools.compress(titles, [True, *known]))


def _view(name: str, result: Result, extras: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all that the template shows of one run."""
    rows = of_result(result)
    best = verdict.recommended(result)
    model, task = result["model"], result["task"]
    return {
        "name": name,
        "model": model,
        "metric": task["metric"],
        "agreement": task["agreement"],
        "verdict": verdict.sentences(result),
        "doubts": table.remarks(result),
        "rows": [_cells(row, rows[0], run=name, best=best) for row in rows],
        "charts": _present(
            [charts.sizes(rows), charts.changes(rows), charts.latencies(rows)]
        ),
        "curves": _curves(result),
        "histograms": [charts.histogram(one) for one in extras.get("histograms", ())],
        "layers": _present([charts.layers(extras.get("layers", ()))]),
        "gammas": [charts.histogram(one) for one in extras.get("gammas", ())],
        "front": search.front(extras["front"]) if extras.get("front") else None,
        "fallbacks": search.fallbacks(result),
        "sensitivity": _sensitivity(extras.get("sensitivity", ())),
        "samples": [_sample(one) for one in extras.get("samples", ())],
        "steps": result.get("slimming", ()),
        "parity": _parity(result),
        "skipped": _skipped(result),
        "consumers": extras.get("consumers") or _consumers(result),
        "code": extras.get("code", {}),
        "environment": _environment(result),
        "command": extras.get("command", ""),
        "config": json.dumps(result.get("config", {}), indent=2),
        "preprocessing": json.dumps(file_preprocessing(model), indent=2),
    }


def _present(plots: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return [plot for plot in plots if plot is not None]


def _cells(row: Row, base: Row, *, run: str, best: Row | None) -> dict[str, Any]:
    """Returns the text and the sorting value of each cell."""
    mark = "*" if row.invalid else ""
    about = "~" if row.comparison and not row.is_told_apart else ""
    speed_up = "-" if row.speed_up is None else f"{about}{row.speed_up:.2f}x{mark}"
    change: float | None = None
    if row.metric is not None and base.metric is not None:
        change = row.metric - base.metric
    cells = [
        (run, run),
        (formats.size(row.size_bytes), row.size_bytes),
        (formats.figure(row.metric), row.metric),
        (table.change_cell(row, base), change),
        (formats.microseconds(row.p50_us) + mark * bool(row.p50_us), row.p50_us),
        (speed_up, row.speed_up),
        (formats.microseconds(row.p90_us) + mark * bool(row.p90_us), row.p90_us),
        (formats.figure(row.agreement), row.agreement),
        ("-" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB", row.sqnr_db),
        (formats.size(row.gzip_bytes), row.gzip_bytes),
        (formats.count(row.params), row.params),
        (formats.count(row.macs), row.macs),
    ]
    return {
        "name": row.name,
        "is_best": best is not None and row.name == best.name,
        "cells": [
            {"text": text, "value": "" if value is None else value}
            for text, value in (cells if run else cells[1:])
        ],
    }


def _curves(result: Result) -> list[dict[str, Any]]:
    training = result.get("training") or {}
    plots = charts.curves(training.get("history", {}), "Training")
    for step in result.get("slimming", ()):
        history = (step.get("training") or {}).get("history", {})
        plots += charts.curves(history, f"After {step['step']}")
    return plots


def _sensitivity(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(entries, key=lambda entry: entry["sqnr_db"])[:_MOST_SENSITIVE]


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a picture with both answers, its boxes in hundredths of the picture."""
    image = str(sample["image"])
    if not _IMAGE.fullmatch(image):
        raise errors.ConfigError(
            f"A sample's image begins with '{image[:30]}'; expected a data URI of a "
            "PNG or JPEG in base64."
        )
    answers = {}
    for key in ("float", "int8"):
        given = sample[key]
        boxes = [
            {
                "x": 100 * one["box"][0],
                "y": 100 * one["box"][1],
                "w": 100 * (one["box"][2] - one["box"][0]),
                "h": 100 * (one["box"][3] - one["box"][1]),
                "text": f"{one['label']} {one['score']:.2f}",
            }
            for one in given.get("boxes", ())
        ]
        score = given.get("score")
        answers[key] = {
            "answer": given.get("answer", ""),
            "score": "" if score is None else f" ({score:.2f})",
            "boxes": boxes,
        }
    return {
        "title": sample.get("title", ""),
        "image": image,
        "label": sample.get("label", ""),
        "is_detection": any("boxes" in sample[key] for key in ("float", "int8")),
        "differs": answers["float"]["answer"] != answers["int8"]["answer"],
        **answers,
    }


def _parity(result: Result) -> list[list[str]]:
    """Returns how far each file is from what it was made of."""
    return [
        [
            variant["name"],
            variant["against"],
            f"{variant['parity']['num_samples']:,}",
            formats.figure(variant["parity"].get("max_abs_error"), ".3g"),
            formats.figure(variant["parity"].get("relative_error"), ".2e"),
            f"{variant['parity']['sqnr_db']:.1f} dB",
        ]
        for variant in result["variants"]
        if "parity" in variant
    ]


def _skipped(result: Result) -> list[str]:
    """Returns what was left as it was or not made, and why."""
    lines = list(result.get("skipped", ()))
    lines += [f"{n} could not be made: {why}" for n, why in result["failed"].items()]
    for step in result.get("slimming", ()):
        entries = step["skipped"]
        lines += [f"{step['step']}: {name}: {why}" for name, why in entries.items()]
    for variant in result["variants"]:
        kept: dict[tuple[str, str], int] = {}
        for row in variant.get("kept_float", ()):
            key = row["op"], row["reason"]
            kept[key] = kept.get(key, 0) + 1
        lines += [
            f"{variant['name']}: {number} × {op} left in float: {why}"
            for (op, why), number in kept.items()
        ]
    return lines


def _consumers(result: Result) -> dict[str, Any] | None:
    """Returns the table of the programs that ran the files."""
    matrix = result.get("consumers")
    if not matrix:
        return None
    titles, *lines = consumers_table.table(matrix)
    rows = [{"name": line[0], "cells": line[1:]} for line in lines]
    return {"columns": titles[1:], "rows": rows}


def _environment(result: Result) -> list[tuple[str, str]]:
    """Returns the conditions of the figures, as pairs of name and value."""
    data = result.get("data", {})
    sizes = [f"{data[k]:,} {k}" for k in ("train", "validation", "test") if k in data]
    facts = [
        ("tfslim", str(result.get("tfslim", ""))),
        ("Data", ", ".join([str(data.get("spec", "")), *sizes])),
        ("Versions", _pairs(result.get("versions", {}))),
    ]
    timed = [row["benchmark"] for row in table.all_rows(result) if row.get("benchmark")]
    if timed:
        machine, options = timed[0]["environment"], timed[0]["options"]
        others = machine.get("busy_with_others")
        facts += [
            (
                "Latency on",
                f"this computer, not a phone: {machine.get('cpu')}, "
                f"{machine.get('cores')} cores, {machine.get('os')}",
            ),
            ("Other programs", "" if others is None else f"{others:.1f} cores busy"),
            (
                "Timing",
                f"{options['num_threads']} thread(s), at least "
                f"{options['num_runs']} runs in {options['rounds']} rounds, "
                f"delegate {options['delegate']}",
            ),
            ("Runtime", _pairs(machine.get("versions", {}))),
        ]
    return [(name, value) for name, value in facts if value]


def _pairs(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
