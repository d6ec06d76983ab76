"""What `tfslim analyze` shows: 80 columns of text, JSON, and Model Explorer's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfslim import escape
from tfslim.report import elide, formats

Analysis = Mapping[str, Any]
# Rows and pieces of advice that are shown if not all are asked for.
_MOST_ROWS = 15
_MOST_ADVICE = 12
_MOST_LAYERS = 6
_WIDTH = 80
_MOST_OP, _LEAST_NAME = 11, 8
_TITLES = ("#", "op", "layer", "params", "MACs", "MAC/B", "time", "share", "bound")
# Columns of words; the others are figures.
_WORDS = (1, 2, 8)


def to_text(found: Analysis, *, show_all: bool = False) -> str:
    """Returns the report, at most 80 columns wide.

    Args:
        found: as `tfslim analyze --json` writes it.
        show_all: every op, not only the slowest.
    """
    lines = [
        *_summary(found),
        "",
        *_ops(found, show_all),
        "",
        *_advice(found, show_all),
        *_pairs(found),
        *_redundancy(found, show_all),
        *_errors(found, show_all),
        *(f"note: {note}" for note in found["notes"]),
    ]
    return "\n".join(line for part in lines for line in _wrapped(escape.terminal(part)))


def sections(found: Analysis) -> dict[str, list[str]]:
    """Returns the same but the ops, whole and unwrapped: title -> lines."""
    parts = {
        "In short": _summary(found),
        "What would help": _advice(found, True),
        "Convolutions": _pairs(found),
        "Redundancy": _redundancy(found, True),
        "Against the other file": _errors(found, True),
        "Notes": iter(found["notes"]),
    }
    listed = {title: [line.strip() for line in lines] for title, lines in parts.items()}
    return {title: lines for title, lines in listed.items() if lines}


def _wrapped(line: str, width: int = _WIDTH) -> Iterator[str]:
    """Breaks a line at spaces; what follows stands under its first word."""
    indent = "  " + " " * (len(line) - len(line.lstrip(" ")))
    while len(line) > width:
        at = line.rfind(" ", len(indent) + 1, width + 1)
        if at <= len(indent):
            at = width
        yield line[:at].rstrip()
        line = indent + line[at:].lstrip()
    yield line


def _summary(found: Analysis) -> Iterator[str]:
    total = found["total"]
    yield (
        f"{found['model']}: {formats.size(total['size_bytes'])}, "
        f"{formats.count(total['params'])} params, {_macs(total['macs'])} MACs"
        + (
            f" (not counted: {', '.join(total['uncounted'])})"
            if total["uncounted"]
            else ""
        )
    )
    if total["whole_us"] is None:
        yield "not timed"
        return
    ratio = total["sum_us"] / total["whole_us"]
    yield (
        f"one run {formats.microseconds(total['whole_us'])}, sum of the ops "
        f"{formats.microseconds(total['sum_us'])} ({ratio:.2f} of it); cold start: "
        f"load {formats.microseconds(total['load_us'])}, first run "
        f"{formats.microseconds(total['first_us'])}"
    )
    device, peaks = found["device"], found["peaks"]
    yield (
        f"on {device['cpu']}, {device['threads']} thread(s); measured roofline: float "
        f"{2e-3 * peaks['float_macs_per_us']:.1f} GFLOP/s, INT8 "
        f"{2e-3 * peaks['int8_macs_per_us']:.1f} GOP/s, memory "
        f"{1e-3 * peaks['bytes_per_us']:.1f} GB/s"
    )
    outside = [row for row in found["ops"] if row["is_outside"]]
    yield (
        f"XNNPACK: {total['partitions']} piece(s), {len(outside)} ops outside"
        + (
            f" ({', '.join(dict.fromkeys(r['op'] for r in outside))})"
            if outside
            else ""
        )
    )


def _macs(macs: int | None) -> str:
    return "?" if macs is None else formats.count(macs)


def _ops(found: Analysis, show_all: bool) -> Iterator[str]:
    rows = found["ops"]
    shown = rows
    if not show_all and len(rows) > _MOST_ROWS:
        slowest = sorted(rows, key=lambda row: -(row["us"] or 0.0))[:_MOST_ROWS]
        shown = sorted(slowest, key=lambda row: row["index"])
    yield from _table([_TITLES, *map(_cells, shown)])
    if len(shown) < len(rows):
        rest = sum(row["us"] or 0.0 for row in rows if row not in shown)
        left = len(rows) - len(shown)
        yield f"… {left} more ops, {formats.microseconds(rest)}; --all"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    work, op = row["work"], row["op"]
    intensity = row["intensity"]
    return (
        str(row["index"]),
        op if len(op) <= _MOST_OP else f"{op[: _MOST_OP - 1]}…",
        row["layer"] or row["tensor"],
        formats.count(work["params"]),
        _macs(work["macs"]),
        "?" if intensity is None else f"{intensity:.1f}",
        "?" if row["us"] is None else formats.microseconds(row["us"]),
        "?" if row["share"] is None else f"{row['share']:.0%}",
        row["bound"] or "?",
    )


def _table(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields lines of 80 columns; layers have what the other columns leave."""
    columns = [[*map(escape.terminal, column)] for column in zip(*lines, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    room = max(_WIDTH - sum(widths) + widths[2] - len(columns) + 1, _LEAST_NAME)
    names = elide.elided(columns[2], room)
    columns[2] = [names[name] for name in columns[2]]
    widths[2] = min(widths[2], room)
    for cells in zip(*columns, strict=True):
        yield " ".join(
            cell.ljust(width) if column in _WORDS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()


def _advice(found: Analysis, show_all: bool) -> Iterator[str]:
    rows = found["advice"]
    if not rows:
        return
    yield "what would help (time from measured ops; accuracy is yours to check):"
    for row in rows if show_all else rows[:_MOST_ADVICE]:
        gain = "      " if row["gain"] is None else f"{-row['gain']:+5.1%}".rjust(6)
        yield f"  {gain} {row['action']}, {row['where']}: {row['text']}"


def _pairs(found: Analysis) -> Iterator[str]:
    if found["separable"]:
        yield "depthwise-separable against plain convolutions of the same size:"
    for row in found["separable"]:
        yield (
            f"  {row['where']}: {row['theory']:.0%} of the MACs in theory, "
            f"{row['measured']:.0%} of the time here"
        )


def _redundancy(found: Analysis, show_all: bool) -> Iterator[str]:
    rows = [r for r in found["kernels"] if _idle(r) or r["rank"] < r["full_rank"] // 2]
    most = None if show_all else _MOST_LAYERS
    if rows:
        yield "redundant weights:"
    for row in sorted(rows, key=lambda r: r["rank"] / max(r["full_rank"], 1))[:most]:
        yield (
            f"  {row['where']}: rank {row['rank']} of {row['full_rank']} holds 99%, "
            f"{row['near_zero']} of {row['channels']} channels near zero, "
            f"{row['duplicates']} near duplicates"
        )
    for row in found["batch_norm"]:
        if row["near_zero"]:
            yield (
                f"  {row['layer']}: {row['near_zero']} of {row['channels']} batch norm "
                "scales near zero"
            )
    for row in found["dead"]:
        if row["dead"]:
            yield (
                f"  {row['where']}: {row['dead']} of {row['channels']} channels never "
                "move on the samples"
            )


def _idle(row: Mapping[str, Any]) -> int:
    return int(row["near_zero"] + row["duplicates"])


def _errors(found: Analysis, show_all: bool) -> Iterator[str]:
    against = found["against"]
    if against is None:
        return
    rows = against["tensors"]
    last = rows[-1]
    yield (
        f"{against['file']} against this file, {against['num_samples']} samples"
        f"{' of random numbers' if against['is_random'] else ''}: "
        f"{last['sqnr_db']:.1f} dB at {last['layer'] or last['tensor']}"
    )
    for row in against["broken"] if show_all else against["broken"][:_MOST_LAYERS]:
        yield (
            f"  {row['layer'] or row['tensor']} ({row['op']}) loses "
            f"{row['fall_db']:.1f} dB: {row['sqnr_db']:.1f} dB behind it"
        )
    if not against["broken"]:
        worst = min(rows, key=lambda row: row["sqnr_db"])
        yield (
            f"  no layer stands out; the worst is {worst['layer'] or worst['tensor']} "
            f"with {worst['sqnr_db']:.1f} dB"
        )


def to_node_data(found: Analysis) -> dict[str, Any]:
    """Returns what Model Explorer colours the ops of the `.tflite` by.

    Nodes are named by their number, as Model Explorer's adapter for `.tflite` does.
    Source: https://github.com/google-ai-edge/model-explorer/wiki/2.-User-Guide.
    """
    results = {
        str(row["index"]): {"value": round(row["us"], 3)}
        for row in found["ops"]
        if row["us"] is not None
    }
    gradient = [
        {"stop": 0, "bgColor": "#ffffff"},
        {"stop": 1, "bgColor": "#e8604c"},
    ]
    return {
        found["graph"]: {
            "name": "time (us)",
            "results": results,
            "gradient": gradient,
        }
    }
