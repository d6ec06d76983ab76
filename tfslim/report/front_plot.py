"""The front of a search as a picture: quality against latency, size as area."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfslim import files

_AREA, _LEAST_AREA = 600.0, 20.0
_KINDS = {
    "cut": ("#4c78a8", "by sensitivity and cost"),
    "uniform": ("#bbbbbb", "uniform width"),
    "final": ("#e8604c", "trained fully"),
    "baseline": ("#333333", "baseline"),
}


def plot_front(found: Mapping[str, Any], path: Path | str) -> bool:
    """Draws what `tfslim optimize` tried and made.

    Args:
        found: the content of `optimize.json`.
        path: file to write, .png, .svg or .pdf.

    Returns:
        Whether there is a picture: without matplotlib there is none.
    """
    try:
        from matplotlib import figure as figure_lib
    except ImportError:
        return False
    figure = figure_lib.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    points = _points(found)
    largest = max(row["size_bytes"] for rows in points.values() for row in rows)
    for kind, rows in points.items():
        color, label = _KINDS[kind]
        areas = [max(_AREA * row["size_bytes"] / largest, _LEAST_AREA) for row in rows]
        axes.scatter(
            [row["latency_us"] / 1e3 for row in rows],
            [row["metric"] for row in rows],
            s=areas,
            c=color,
            alpha=0.7,
            label=label,
        )
    limit = found["goal"]["max_latency_us"]
    if limit is not None:
        axes.axvline(limit / 1e3, color="#e8604c", linestyle=":", label="budget")
    axes.set_xscale("log")
    axes.set_xlabel("latency in ms (log), area: size of the file")
    axes.set_ylabel("metric")
    axes.legend(markerscale=0.4)
    stream = io.BytesIO()
    # Without a date the same points give the same bytes.
    suffix = Path(path).suffix.removeprefix(".")
    figure.savefig(stream, format=suffix, dpi=120, metadata=_undated(suffix))
    files.write_bytes(path, stream.getvalue())
    return True


def _undated(suffix: str) -> dict[str, None]:
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix, {})


def _points(found: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["trials"]:
        kinds.setdefault(row["candidate"]["kind"], []).append(row)
    kinds["baseline"] = list(found["baseline"].values())
    kinds["final"] = list(found["final"])
    return {kind: kinds[kind] for kind in _KINDS if kinds.get(kind)}
