"""The table of a benchmark: one row a file, thread count and device."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from tfslim import escape
from tfslim.report import elide
from tfslim.report.formats import microseconds, size
from tfslim.report.table import markdown_table

# {"result": BenchmarkResult.to_json(), "comparison": Comparison.to_json() or None}
Row = Mapping[str, Any]

_TITLES = (
    "file",
    "device",
    "threads",
    "size",
    "mean",
    "p50",
    "p90",
    "latency ratio",
    "verdict",
    "ops outside",
    "peak memory",
)
_TOP_OPS = 10
_LEAST_NAME = 20


def latency_to_terminal(rows: Sequence[Row], file: TextIO | None = None) -> None:
    """Prints the table, at most 80 columns wide, the verdicts and the conditions."""
    file = file or sys.stdout
    console = Console(
        file=file, width=None if file.isatty() else 80, highlight=False, markup=False
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles, lines = _compact(rows)
    for column, title in enumerate(titles):
        table.add_column(
            title,
            justify="left" if column == 0 else "right",
            overflow="fold",
            no_wrap=column > 0,
        )
    for line in lines:
        table.add_row(*map(escape.terminal, line))
    console.print(table)
    for note in [*sentences(rows), *notes(rows)]:
        console.print(escape.terminal(note), soft_wrap=not file.isatty())
    for row in rows:
        if lines := _profile(row["result"]):
            ops = Table(*lines[0], box=box.SIMPLE_HEAD)
            for cells in _narrow(lines[1:], console.width):
                ops.add_row(*cells)
            title = escape.terminal(_title(row["result"]))
            console.print(f"\n{title}: {row['result']['ops_source']}")
            console.print(ops)


def _narrow(lines: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Returns a profile's lines for a terminal, the names as wide as there is room."""
    shown = [[*map(escape.terminal, cells)] for cells in lines]
    columns = [*zip(*shown, strict=True)]
    # Each column has three characters around it, and the whole two.
    rest = sum(max(map(len, column)) for column in columns[:-1]) + 3 * len(columns) + 2
    short = elide.elided(columns[-1], max(width - rest, _LEAST_NAME))
    return [[*cells, short[name]] for *cells, name in shown]


def latency_to_markdown(rows: Sequence[Row]) -> str:
    """Returns the table and its conditions as Markdown, for a pull request."""
    parts = [
        markdown_table(
            _TITLES, [[escape.markdown(c) for c in _cells(r)] for r in rows]
        ),
        "\n".join(
            f"- {escape.markdown(line)}" for line in [*sentences(rows), *notes(rows)]
        ),
    ]
    for row in rows:
        if lines := _profile(row["result"]):
            result = row["result"]
            parts.append(f"{escape.markdown(_title(result))}: {result['ops_source']}")
            cells = [[escape.markdown(cell) for cell in line] for line in lines[1:]]
            parts.append(markdown_table(lines[0], cells))
    return "\n\n".join(part for part in parts if part) + "\n"


def _compact(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Returns titles and lines for 80 columns: what differs, and the figures."""
    devices = {_device(row["result"]) for row in rows}
    threads = {row["result"]["options"]["num_threads"] for row in rows}
    titles = ["file", *(["device"] if len(devices) > 1 else [])]
    titles += ["threads"] if len(threads) > 1 else []
    titles += ["size", "latency", "p90", "ratio [interval]"]
    lines = []
    for row in rows:
        result = row["result"]
        mark = "*" if result["invalid"] else ""
        line = [result["name"]]
        line += [_device(result)] if len(devices) > 1 else []
        line += [str(result["options"]["num_threads"])] if len(threads) > 1 else []
        line += [
            size(result["size_bytes"]),
            microseconds(_typical(result["latency"])) + mark,
            microseconds(result["latency"]["p90"]),
            _verdict(row["comparison"])[0],
        ]
        lines.append(line)
    return titles, lines


def sentences(rows: Sequence[Row]) -> list[str]:
    """Returns the verdict on each file that was compared, in words."""
    lines = []
    for row in rows:
        result, done = row["result"], row["comparison"]
        if done is None:
            continue
        name = _title(result)
        if done["low"] is None:
            lines.append(f"{name}: too few rounds for a verdict; --rounds takes more.")
            continue
        interval = f"{done['confidence']:.0%} interval"
        ends = f"{done['low']:.3f} to {done['high']:.3f}"
        if done["verdict"] == "no difference found":
            lines.append(
                f"{name}: no difference from '{done['base']}' found; the ratio of "
                f"their times is within {ends} ({interval})."
            )
            continue
        why = ""
        if done["verdict"] == "slower" and result["outside"]:
            kinds = ", ".join(f"{n} {op}" for op, n in result["outside"].items())
            why = f" Outside of the delegate run {kinds}."
        lines.append(
            f"{name} is {done['verdict']} than '{done['base']}': "
            f"{done['ratio']:.3f} of its time ({interval} {ends}).{why}"
        )
    return lines


def notes(rows: Sequence[Row]) -> list[str]:
    """Returns the conditions of the figures and all that speaks against them."""
    lines: dict[str, None] = {}
    for row in rows:
        lines[_conditions(row["result"])] = None
    for row in rows:
        result, comparison = row["result"], row["comparison"]
        for name, reason in result["invalid"].items():
            lines[f"Invalid ({name}), {_title(result)}: {reason}"] = None
        if comparison and not comparison["is_paired"]:
            lines[
                f"Ratio to '{comparison['base']}' of an earlier run: what changed on "
                "the device in between is in the ratio and not in the interval."
            ] = None
    return list(lines)


def _cells(row: Row) -> list[str]:
    result = row["result"]
    latency, peak = result["latency"], result["peak_memory_bytes"]
    return [
        result["name"] + (" (invalid)" if result["invalid"] else ""),
        _device(result),
        str(result["options"]["num_threads"]),
        size(result["size_bytes"]),
        microseconds(latency["mean"]),
        microseconds(latency["p50"]),
        microseconds(latency["p90"]),
        *_verdict(row["comparison"]),
        _outside(result),
        "-" if peak is None else size(peak),
    ]


def _verdict(comparison: Mapping[str, Any] | None) -> list[str]:
    if comparison is None:
        return ["-", "-"]
    ratio = f"{comparison['ratio']:.3f}"
    if comparison["low"] is not None:
        ratio += f" [{comparison['low']:.3f}, {comparison['high']:.3f}]"
    return [ratio, comparison["verdict"]]


def _outside(result: Mapping[str, Any]) -> str:
    if result["other_ops"] is None:
        return "-"
    kinds = ", ".join(f"{count} {op}" for op, count in result["outside"].items())
    return f"{result['other_ops']} ({kinds})" if kinds else str(result["other_ops"])


def _device(result: Mapping[str, Any]) -> str:
    machine = result["environment"]
    return machine["serial"] if "serial" in machine else machine["device"]


def _title(result: Mapping[str, Any]) -> str:
    threads = result["options"]["num_threads"]
    return f"'{result['name']}' on {_device(result)} with {threads} thread(s)"


def _conditions(result: Mapping[str, Any]) -> str:
    machine, options = result["environment"], result["options"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    model = machine["device"] if result["runner"] == "android" else None
    features = " ".join(machine.get("cpu_features", ()))
    facts = [model, machine["cpu"], features, machine["os"], versions]
    if machine.get("governor"):
        facts.append(f"governor {machine['governor']}")
    before, after = (machine.get(f"temperature_{w}_c") for w in ("before", "after"))
    if before is not None and after is not None:
        facts.append(f"{before:.0f} °C before, {after:.0f} °C after")
    label = " (this computer, not a phone)" if result["runner"] == "host" else ""
    return (
        f"{_device(result)}{label}: {', '.join(fact for fact in facts if fact)}; "
        f"delegate {options['delegate']}; at least {options['num_runs']} runs and "
        f"{options['min_secs']:g} s a file in {options['rounds']} interleaved rounds."
    )


def _profile(result: Mapping[str, Any]) -> list[list[str]]:
    """Returns the slowest ops as lines of cells, titles first."""
    known = [op for op in result["ops"] if op["latency_us"] is not None]
    if not known:
        return []
    total = sum(op["latency_us"] for op in known)
    slowest = sorted(known, key=lambda op: -op["latency_us"])[:_TOP_OPS]
    return [
        ["op", "latency", "share", "output"],
        *(
            [
                f"{op['index']} {op['op']}",
                microseconds(op["latency_us"]),
                f"{op['latency_us'] / total:.1%}",
                # The converter lists all layers that it fused; the first says enough.
                op["name"].split(";")[0],
            ]
            for op in slowest
        ),
        [
            f"all {len(known)} of {len(result['ops'])} ops",
            microseconds(total),
            "100%",
            f"whole file: {microseconds(_typical(result['latency']))}",
        ],
    ]


def _typical(latency: Mapping[str, Any]) -> float:
    return latency["mean"] if latency["p50"] is None else latency["p50"]
