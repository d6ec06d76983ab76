"""The verdict in a sentence: which file to take, what it costs, why another is slower.

It concludes nothing from figures that are not valid, and says how sure it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfslim.report import formats
from tfslim.report.rows import Result, Row, of_result

# An error of less leaves an output of use where no accuracy tells.
_SOUND_DB = 10.0
# Of metrics that have no interval, the share by which one may be worse.
_MOST_WORSE = 0.05
# Files whose times differ by less are chosen by their size.
_AS_FAST = 1.05


def recommended(result: Result) -> Row | None:
    """Returns the file to take: the fastest that keeps its accuracy, else the smallest.

    Times count where they are valid; among files about as fast the smallest is taken.
    None where no file is sound.
    """
    rows = of_result(result)
    files = [row for row in rows if row.file and _is_sound(row, rows[0], result=result)]
    if not files:
        return None
    if all(row.p50_us and not row.invalid for row in files):
        best = min(row.p50_us or 0 for row in files)
        files = [row for row in files if (row.p50_us or 0) <= best * _AS_FAST]
    return min(files, key=lambda row: row.size_bytes)


def sentences(result: Result) -> list[str]:
    """Returns the verdict; the first sentence says which file to take."""
    rows = of_result(result)
    best = recommended(result)
    if best is None:
        return ["No file keeps its accuracy: none is worth taking as it is."]
    found = [f"Take {best.file}: {'; '.join(_facts(best, rows[0], result=result))}."]
    if best.p50_us and best.invalid:
        found.append("The times are not valid figures, so they did not decide.")
    return found + [why for row in rows[1:] if (why := _why_slower(row, rows[0]))]


def change_text(change: Mapping[str, Any]) -> str:
    """Says in words how an accuracy changed, and how sure that is."""
    low, high = (formats.points(change[end]) for end in ("low", "high"))
    margin = formats.plain_points(change["margin"])
    interval = f"{change['confidence']:.0%} interval {low} to {high}"
    text = f"{formats.points(change['change'])} points ({interval}), "
    sure = f"with {change['confidence']:.0%} confidence"
    if change["verdict"] == "within":
        return f"{text}a drop of {margin} is ruled out {sure}"
    if change["verdict"] == "beyond":
        return f"{text}it drops by more than {margin} {sure}"
    text += f"a drop of {margin} is not ruled out"
    if needed := change.get("examples_needed"):
        count = change["num_examples"]
        return f"{text}: that takes {needed:,} test examples like these {count:,}"
    return text


def _is_sound(row: Row, base: Row, *, result: Result) -> bool:
    if row.change is not None:
        return bool(row.change["verdict"] != "beyond")
    if row.metric is not None and base.metric is not None:
        gain = row.metric - base.metric
        gain = gain if result["task"]["higher_is_better"] else -gain
        if gain < -_MOST_WORSE * abs(base.metric):
            return False
    return row.sqnr_db is None or row.sqnr_db >= _SOUND_DB


def _facts(best: Row, base: Row, *, result: Result) -> list[str]:
    size = formats.size(best.size_bytes)
    if best.size_bytes < base.size_bytes:
        size += f" ({base.size_bytes / best.size_bytes:.1f}x smaller than {base.name})"
    facts = [size]
    if best.metric is not None:
        metric = f"{result['task']['metric']} {formats.figure(best.metric)}"
        if best.change is not None and best is not base:
            metric += f", {change_text(best.change)}"
        elif base.metric is not None and best is not base:
            metric += f" ({base.name}: {formats.figure(base.metric)})"
        facts.append(metric)
    elif best.agreement is not None:
        agreement = formats.figure(best.agreement)
        facts.append(f"{result['task']['agreement']} {agreement}")
    if best.p50_us and not best.invalid:
        facts.append(_time(best, base))
    return facts


def _time(best: Row, base: Row) -> str:
    text = formats.microseconds(best.p50_us)
    if best.name == base.name or best.comparison is None:
        return text
    if not best.is_told_apart:
        return f"{text}, no difference from {base.name} found"
    ratio = best.comparison["ratio"]
    if ratio <= 1:
        return f"{text}, {1 / ratio:.2f}x as fast as {base.name}"
    return f"{text}, {ratio:.2f}x the time of {base.name}"


def _why_slower(row: Row, base: Row) -> str | None:
    if row.comparison is None or row.invalid or not row.is_told_apart:
        return None
    if row.comparison["ratio"] <= 1:
        return None
    text = f"{row.name} takes {row.comparison['ratio']:.2f}x the time of {base.name}"
    if row.ops_outside:
        return f"{text}: outside of the delegate run {_counted(row.ops_outside)}."
    if row.kept_float:
        ops = [entry["op"] for entry in row.kept_float]
        kinds = {op: ops.count(op) for op in dict.fromkeys(ops)}
        return f"{text}: {_counted(kinds)} stayed in float, between conversions."
    return (
        f"{text}: its kernels are slower here; `tfslim benchmark --profile` times them."
    )


def _counted(kinds: Mapping[str, int]) -> str:
    return _joined([f"{number} {kind}" for kind, number in kinds.items()])


def _joined(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
