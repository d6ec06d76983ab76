"""What a search asks for, and what is measured of its trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.search import choose


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for.

    Attributes:
        source: the model: of the zoo, or what `load_model` opens.
        goal: the budget.
        max_drop: points of the metric that may be lost.
        family: how many models along the front; 0: the best one.
        brief_epochs: of the fine-tuning of each trial.
        epochs: of the winner's.
        study: URL of the trials' database; "": SQLite in the folder.
    """

    source: str
    goal: choose.Goal
    max_drop: float = 1.0
    family: int = 0
    brief_epochs: int = 2
    epochs: int = 8
    study: str = ""


def row_of(found: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """Returns what counts of an export: quality (larger is better), time, sizes."""
    row = next(v for v in found["variants"] if v["name"] == recipe)
    quality = row.get("metric")
    is_higher = found["task"]["higher_is_better"]
    if quality is None:
        raise errors.ConfigError(
            "The search compares models by their metric: it needs data with labels."
        )
    timing = row["benchmark"]
    return {
        "quality": quality if is_higher else -quality,
        "metric": quality,
        "latency_us": timing["latency"]["p50"] or timing["latency"]["mean"],
        "size_bytes": row["size_bytes"],
        "memory_bytes": timing["peak_memory_bytes"],
        "macs": found["model"]["macs"],
        "params": found["model"]["params"],
    }


def meets(
    row: Mapping[str, Any], plan: Mapping[str, Any], *, wanted: Wanted
) -> dict[str, bool]:
    """Says of each limit whether the measured row meets it."""
    goal = wanted.goal
    top = plan["baseline"]["float32"]["quality"]
    limits = {
        "max_latency": (row["latency_us"], goal.max_latency_us),
        "max_size": (row["size_bytes"], goal.max_size_bytes),
        "max_macs": (row["macs"], goal.max_macs),
        "max_params": (row["params"], goal.max_params),
        "max_memory": (row["memory_bytes"] or 0, goal.max_memory_bytes),
    }
    found = {n: own <= most for n, (own, most) in limits.items() if most is not None}
    return {**found, "max_drop": row["quality"] >= top - wanted.max_drop / 100}


def winners_of(rows: list[dict[str, Any]], wanted: Wanted) -> list[dict[str, Any]]:
    """Returns the best trial under the budget, or those on the measured front."""
    if wanted.family:
        front = [row for row in rows if not _is_dominated(row, rows)]
        front.sort(key=lambda row: row["latency_us"], reverse=True)
        count = min(wanted.family, len(front))
        # From end to end: the fastest is what a family is asked for.
        return [
            front[i] for i in np.linspace(0, len(front) - 1, count).round().astype(int)
        ]

    return [max(rows, key=rank)]


def rank(row: Mapping[str, Any]) -> tuple[int, float]:
    """Orders rows: the more limits are met the better, then the better metric."""
    missed = [n for n, met in row["meets"].items() if not met and n != "max_drop"]
    return -len(missed), row["quality"]


def _is_dominated(row: Mapping[str, Any], rows: list[dict[str, Any]]) -> bool:
    return any(
        other["quality"] >= row["quality"]
        and other["latency_us"] <= row["latency_us"]
        and (other["quality"], other["latency_us"])
        != (row["quality"], row["latency_us"])
        for other in rows
    )


def prediction_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Holds the predicted latencies against the measured ones."""
    errors_ = [
        abs(row["candidate"]["predicted"]["latency_us"] / row["latency_us"] - 1)
        for row in rows
    ]
    return {
        "median_error": float(np.median(errors_)),
        "largest_error": float(np.max(errors_)),
    }
