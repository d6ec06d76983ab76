"""What the command shows at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfslim.report import verdict

# Layers of `--sensitivity` that are shown; the report has all.
_WORST = 5


def to_text(report: Mapping[str, Any], out: Path) -> str:
    """Returns the lines for the terminal.

    Args:
        report: what goes into the JSON beside the file.
        out: the file.
    """
    lines = [
        *_trials(report),
        *_fallback(report),
        *_sensitivity(report),
        *_files(report),
        *_outputs(report),
    ]
    if report["kept_float"]:
        ops = [row["op"] for row in report["kept_float"]]
        counts = [f"{ops.count(op)} {op}" for op in dict.fromkeys(ops)]
        lines.append(f"in float: {', '.join(counts)}")
    for finding in report["findings"]:
        lines.append(f"{finding['kind']}, {finding['where']}: {finding['text']}")
    lines += report["notes"]
    return "\n".join([*lines, f"{out} is written.", ""])


def _trials(report: Mapping[str, Any]) -> Iterator[str]:
    for trial in report["trials"]:
        yield f"  {trial['method']:<16} {trial['sqnr_db']:6.2f} dB on held-out"
    fell_back = "fallback" in report
    if fell_back:
        yield "with all layers quantized:"
    for step, sqnr_db in report["steps"].items():
        is_used = fell_back or step == "plain" or step in report["taken"]
        yield f"  {step:<22} {sqnr_db:6.2f} dB{'' if is_used else ' (not used)'}"


def _fallback(report: Mapping[str, Any]) -> Iterator[str]:
    goal = report.get("goal")
    if goal is None:
        return
    yield f"--max_drop by {goal['key']} ({goal['reason']}): {goal['least']:.4f} wanted"
    for step in report.get("fallback", [])[1:]:
        yield (
            f"  {step['layer']} in float: {step['metric']:.4f}, "
            f"{step['size_bytes'] / 1000:,.0f} kB, {step['latency_us'] / 1000:.3f} ms"
        )
    if "fallback" in report:
        yield f"  written with: {', '.join(report['taken']) or 'no other step'}"


def _sensitivity(report: Mapping[str, Any]) -> Iterator[str]:
    rows = report.get("sensitivity", [])
    if rows:
        yield f"the {min(_WORST, len(rows))} worst of {len(rows)} layers, each alone:"
    for row in rows[:_WORST]:
        name = row["layer"] or row["tensor"]
        yield f"  {row['sqnr_db']:6.2f} dB {name} ({row['op']})"


def _files(report: Mapping[str, Any]) -> Iterator[str]:
    for row in (*report["files"], *report["alternatives"]):
        facts = [
            f"{row['size_bytes'] / 1000:,.0f} kB",
            f"{row['p50_us'] / 1000:.3f} ms",
        ]
        others = {k: v for k, v in row.items() if isinstance(v, float)}
        others.pop("p50_us")
        facts += [f"{key} {value:.4g}" for key, value in others.items()]
        yield f"{row['name']:<18} {', '.join(facts)}"
    change = report["files"][-1].get("change")
    if change is not None and len(report["files"]) > 1:
        yield f"accuracy {verdict.change_text(change)}"


def _outputs(report: Mapping[str, Any]) -> Iterator[str]:
    """One line an output, where there are several or one has columns."""
    rows = report["files"][-1].get("outputs", [])
    if len(rows) < 2 and not any(row.get("column") is not None for row in rows):
        return
    for row in rows:
        column = row.get("column")
        worst = "" if column is None else f" in its worst column, {column}"
        yield (
            f"  output {row['output']}: {row['sqnr_db']:.2f} dB{worst}, error "
            f"{row['rms_error']:.3g} of {row['rms']:.3g} (RMS)"
        )
