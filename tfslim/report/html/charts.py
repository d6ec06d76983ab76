"""Plots as plain numbers, in the units of a drawing 320 wide; the template draws them.

They are drawn by hand rather than by matplotlib: the page's colors reach into them, in
light and dark, their text is text, a plot takes 2 kB, and the base install stays light.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim.report import formats
from tfslim.report.rows import Row

WIDTH, _ROW, _HEIGHT = 320.0, 34.0, 150.0
_LEFT, _RIGHT = 44.0, 8.0
# More rows than that are the smallest ones and would only make the plot long.
_MOST_ROWS = 25


def sizes(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns the bars of the files' sizes."""
    return _bars(
        "Size",
        [(row.name, row.size_bytes, formats.size(row.size_bytes)) for row in rows],
    )


def latencies(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Returns the bars of the medians on the host; None if nothing was timed."""
    timed = [row for row in rows if row.p50_us]
    if not timed:
        return None
    mark = " (not valid figures)" if any(row.invalid for row in timed) else ""
    bars = [
        (row.name, row.p50_us or 0.0, formats.microseconds(row.p50_us)) for row in timed
    ]
    return _bars(f"Latency, median{mark}", bars)


def changes(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Returns the accuracies' changes with their intervals, in percentage points."""
    known = [(row.name, row.change) for row in rows if row.change is not None]
    if not known:
        return None
    margin = known[0][1]["margin"]
    low = min(-1.5 * margin, *(change["low"] for _, change in known))
    high = max(0.5 * margin, *(change["high"] for _, change in known))

    def place(value: float) -> float:
        return round(4 + (value - low) / (high - low) * (WIDTH - 8), 1)

    marks = [
        {
            "label": name,
            "text": f"{formats.points(change['change'])} "
            f"[{formats.points(change['low'])}, {formats.points(change['high'])}]",
            "at": place(change["change"]),
            "low": place(change["low"]),
            "high": place(change["high"]),
            "y": index * _ROW,
        }
        for index, (name, change) in enumerate(known)
    ]
    against = known[0][1].get("against", "the model as given")
    return {
        "kind": "intervals",
        "title": f"Change in accuracy against {against}, percentage points, "
        f"{known[0][1]['confidence']:.0%} interval; dashed: "
        f"a drop of {formats.plain_points(margin)}",
        "marks": marks,
        "zero": place(0.0),
        "margin": place(-margin),
        "height": len(marks) * _ROW + 4,
    }


def layers(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the cost of each layer before and after, the dearest first.

    Args:
        costs: "name", and "before" and "after" in microseconds, either may be None;
            "unit" "MACs" for those. Where no layer has an "after", there is one bar.
    """
    if not costs:
        return None
    is_count = costs[0].get("unit") == "MACs"
    text = formats.count if is_count else formats.microseconds

    def dear(cost: Mapping[str, Any]) -> float:
        return max(cost.get("before") or 0.0, cost.get("after") or 0.0)

    shown = sorted(costs, key=dear, reverse=True)[:_MOST_ROWS]
    left_out = len(costs) - len(shown)
    more = f" ({left_out} cheaper layers are not shown)" if left_out else ""
    what = f"{'MACs' if is_count else 'Cost'} per layer"
    if not any("after" in cost for cost in costs):
        rows = [(c["name"], c["before"], text(c["before"])) for c in shown]
        return _bars(f"{what}{more}", rows)
    top = dear(shown[0]) or 1.0
    bars = []
    for index, cost in enumerate(shown):
        before, after = cost.get("before"), cost.get("after")
        bars.append(
            {
                "label": cost["name"],
                "text": f"{text(before)} → {text(after)}",
                "before": round((before or 0.0) / top * WIDTH, 1),
                "after": round((after or 0.0) / top * WIDTH, 1),
                "y": index * 42,
            }
        )
    title = f"{what}, before and after{more}"
    return {"kind": "pairs", "title": title, "bars": bars, "height": len(bars) * 42 + 2}


def histogram(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a histogram with the thresholds that were chosen.

    Args:
        entry: "name", "edges" [n + 1], "counts" [n], and "thresholds": label -> [low,
            high]; also "samples", how many they are of. Counts are drawn by their
            logarithm, as a few outliers are the point.
    """
    edges, counts = entry["edges"], entry["counts"]
    thresholds = entry.get("thresholds", {})
    # More samples than are drawn may have reached further.
    every = [edges[0], edges[-1], *itertools.chain(*thresholds.values())]
    first, last = float(min(every)), float(max(every))
    span = (last - first) or 1.0
    top = math.log1p(max(counts, default=0)) or 1.0

    def place(value: float) -> float:
        return round((float(value) - first) / span * WIDTH, 1)

    bars = []
    for left, right, number in zip(edges[:-1], edges[1:], counts, strict=True):
        height = round(math.log1p(number) / top * (_HEIGHT - 40), 1)
        wide = max(round(place(right) - place(left), 1), 0.5)
        bars.append({"x": place(left), "w": wide, "h": height})
    cuts = []
    for index, (label, ends) in enumerate(thresholds.items()):
        cuts += [{"x": place(end), "label": label, "row": index} for end in ends]
    seen = f", of {entry['samples']} samples" if "samples" in entry else ""
    return {
        "kind": "histogram",
        "title": f"{entry['name']}: values by their number (logarithmic){seen}",
        "bars": bars,
        "cuts": cuts,
        "first": f"{first:.3g}",
        "last": f"{last:.3g}",
        "height": _HEIGHT,
    }


def curves(history: Mapping[str, Sequence[float]], title: str) -> list[dict[str, Any]]:
    """Returns a plot for each figure of a training, with that of the validation."""
    plots = []
    for name, values in history.items():
        if name.startswith("val_") and name[4:] in history:
            continue
        lines = {"training": values}
        if f"val_{name}" in history:
            lines["validation"] = history[f"val_{name}"]
        lines = {k: [float(v) for v in vs] for k, vs in lines.items()}
        if all(math.isfinite(v) for vs in lines.values() for v in vs) and values:
            plots.append(_curve(f"{title}: {name}", lines))
    return plots


def _curve(title: str, lines: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    every = [value for values in lines.values() for value in values]
    low, high = min(every), max(every)
    span, steps = (high - low) or 1.0, max(map(len, lines.values()))

    def place(index: int, value: float) -> str:
        x = _LEFT + index / max(steps - 1, 1) * (WIDTH - _LEFT - _RIGHT)
        return f"{x:.1f},{10 + (high - value) / span * (_HEIGHT - 40):.1f}"

    return {
        "kind": "lines",
        "title": f"{title}, {steps} epochs",
        "lines": [
            {
                "label": label,
                "points": " ".join(place(i, v) for i, v in enumerate(values)),
                "dots": [place(0, values[0]).split(",")] if len(values) == 1 else [],
            }
            for label, values in lines.items()
        ],
        "low": f"{low:.3g}",
        "high": f"{high:.3g}",
        "epochs": steps,
        "height": _HEIGHT,
    }


def front(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a search tried and made: quality against latency.

    Args:
        found: the content of `optimize.json`.
    """
    rows = [
        *(("baseline", name, row) for name, row in found["baseline"].items()),
        *((r["candidate"]["kind"], r["candidate"]["name"], r) for r in found["trials"]),
        *(("final", row["folder"], row) for row in found["final"]),
    ]
    times = [math.log(row["latency_us"]) for _, _, row in rows]
    metrics = [row["metric"] for _, _, row in rows]
    limit = found["goal"]["max_latency_us"]
    ends = [*times, math.log(limit)] if limit else times

    def place(values: Sequence[float], value: float, left: float, size: float) -> float:
        span = (max(values) - min(values)) or 1.0
        return round(left + (value - min(values)) / span * size, 1)

    width = WIDTH - _LEFT - _RIGHT
    points = [
        {
            "kind": kind if kind in ("final", "baseline", "uniform") else "cut",
            "x": place(ends, time, _LEFT, width),
            "y": round(130.0 - place(metrics, row["metric"], 10.0, 105.0), 1),
            "title": f"{name}: {row['metric']:.4g}, "
            f"{formats.microseconds(row['latency_us'])}, "
            f"{formats.size(row['size_bytes'])}",
        }
        for (kind, name, row), time in zip(rows, times, strict=True)
    ]
    return {
        "kind": "points",
        "title": "Metric against latency (logarithmic)",
        "points": points,
        "limit": place(ends, math.log(limit), _LEFT, width) if limit else None,
        "low": f"{min(metrics):.3g}",
        "high": f"{max(metrics):.3g}",
        "first": formats.microseconds(math.exp(min(ends))),
        "last": formats.microseconds(math.exp(max(ends))),
        "height": _HEIGHT,
    }


def ops(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the ops of an analysis that take the longest."""
    timed = [row for row in rows if row["us"]]
    if not timed:
        return None
    shown = sorted(timed, key=lambda row: -row["us"])[:_MOST_ROWS]
    left_out = len(timed) - len(shown)
    more = f" ({left_out} shorter ones are not shown)" if left_out else ""
    bars = [
        (
            f"{row['index']} {row['op']} {row['layer'] or row['tensor']}",
            row["us"],
            formats.microseconds(row["us"]),
        )
        for row in shown
    ]
    return _bars(f"Time of each op{more}", bars)


def _bars(title: str, rows: Sequence[tuple[str, float, str]]) -> dict[str, Any]:
    top = max(value for _, value, _ in rows) or 1.0
    bars = [
        {
            "label": label,
            "text": text,
            "width": round(max(value / top * WIDTH, 1.0), 1),
            "y": index * _ROW,
        }
        for index, (label, value, text) in enumerate(rows)
    ]
    return {
        "kind": "bars",
        "title": title,
        "bars": bars,
        "height": len(bars) * _ROW + 2,
    }
