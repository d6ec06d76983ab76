"""One row a file, from the content of `result.json`, for all pages and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A file, and how it compares with the model as given.

    Attributes:
        name: of the variant, or "original".
        file: its name in the folder, None for a model that is no file there.
        params, macs: of its model.
        metric: of the task, or None.
        agreement, sqnr_db: with the file that `against` names, or None.
        change: how the accuracy changed (`evaluation.AccuracyChange` as JSON), or None.
        p50_us, p90_us: latency on the host, or None.
        comparison: latency against the first timed file (`benchmark.Comparison` as
            JSON), or None.
        speed_up: over the first timed file, or None.
        invalid: why the latency is no valid figure; empty if it is.
        ops_outside: kind of op -> how many run outside of the delegate.
        kept_float: rows of ops that stayed in float, with the reason.
    """

    name: str
    file: str | None
    size_bytes: int
    gzip_bytes: int
    params: int | None
    macs: int | None
    metric: float | None
    agreement: float | None
    sqnr_db: float | None
    change: Mapping[str, Any] | None
    p50_us: float | None
    p90_us: float | None
    comparison: Mapping[str, Any] | None
    speed_up: float | None
    invalid: Mapping[str, str]
    ops_outside: Mapping[str, int]
    kept_float: tuple[Mapping[str, Any], ...]

    @property
    def is_told_apart(self) -> bool:
        """Whether its latency differs from the first file's by more than noise."""
        verdict = (self.comparison or {}).get("verdict")
        return verdict in ("faster", "slower")


def all_rows(result: Result) -> list[Mapping[str, Any]]:
    """Returns the model before the steps, where there were any, and the variants."""
    original = result.get("original")
    return [*([original] if original else []), *result["variants"]]


def of_result(result: Result) -> list[Row]:
    """Returns the rows, the model as given first."""
    found: list[Row] = []
    base: float | None = None
    for entry in all_rows(result):
        row = _row(entry, result["model"], base_us=base)
        base = base or row.p50_us
        found.append(row)
    return found


def _row(
    entry: Mapping[str, Any], model: Mapping[str, Any], *, base_us: float | None
) -> Row:
    timing, parity = entry.get("benchmark") or {}, entry.get("parity") or {}
    latency = timing.get("latency") or {}
    p50, comparison = latency.get("p50"), entry.get("comparison")
    speed_up = (base_us or p50) / p50 if p50 else None
    if comparison:
        speed_up = 1 / comparison["ratio"]
    return Row(
        name=entry["name"],
        file=entry.get("file"),
        size_bytes=entry["size_bytes"],
        gzip_bytes=entry["gzip_bytes"],
        params=entry.get("params", model.get("params")),
        macs=entry.get("macs", model.get("macs")),
        metric=entry.get("metric"),
        agreement=parity.get("agreement"),
        sqnr_db=parity.get("sqnr_db"),
        change=entry.get("change"),
        p50_us=p50,
        p90_us=latency.get("p90"),
        comparison=comparison,
        speed_up=speed_up,
        invalid=timing.get("invalid") or {},
        ops_outside=timing.get("outside") or {},
        kept_float=tuple(entry.get("kept_float") or ()),
    )


def file_preprocessing(model: Mapping[str, Any]) -> Any:
    """Returns how images become the files' input, by the result's "model"."""
    return model.get("file_preprocessing", model.get("preprocessing"))
