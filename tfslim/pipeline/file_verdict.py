"""Whether a quantized file is fit to be written, and which recipe would be better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfslim import benchmark, errors, quantization, report
from tfslim.evaluation import FileTest

OnStep = Callable[[str], None]

# Recipes that need no calibration are quickly made and tested.
_CHEAP = ("dynamic_int8", "float16")
# Below that an output's error shows; recipes without it are worth a look.
POOR_DB = 15.0


def measured(
    contents: dict[str, bytes], test: FileTest | None, *, on_step: OnStep
) -> list[dict[str, Any]]:
    """Returns a row for each file: size, time and what the test says."""
    on_step("timing")
    timings = benchmark.run_host(contents, benchmark.Options(num_runs=30, rounds=5))
    rows = []
    for (name, content), timing in zip(contents.items(), timings, strict=True):
        on_step(f"testing {name}")
        row = {"name": name, "size_bytes": len(content), "p50_us": timing.latency.p50}
        if test is not None:
            row |= {**test(content), "change": test.change(content)}
        rows.append(row)
    return rows


def require_fit(
    name: str, content: bytes, *, model: bytes, test: FileTest, on_step: OnStep
) -> None:
    """Refuses a file whose output collapsed, or that is as wrong as a constant.

    Args:
        name: of the recipe.
        content: the file.
        model: the float model.
        test: measures files against it.
        on_step: called with a line of text before each step.

    Raises:
        QuantizationError: it is useless; names the recipes that are not.
    """
    fault = test.fault(content)
    if not fault:
        return
    good = []
    for other, made in _cheap(name, model, on_step=on_step).items():
        row = test(made)
        if not test.fault(made):
            facts = f"{row['sqnr_db']:.1f} dB, {len(made) / 1000:,.0f} kB"
            good.append(f"--recipe={other} ({facts})")
    instead = f"Take {' or '.join(good)}" if good else "No other recipe does better"
    raise errors.QuantizationError(
        f"The {name} file is useless: {fault}. {instead}; or let layers stay float "
        "with --max_drop. Nothing is written."
    )


def better(
    contents: dict[str, bytes],
    rows: list[dict[str, Any]],
    *,
    test: FileTest | None,
    on_step: OnStep,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Looks for a better recipe where a file is slower than float, or far from it.

    Args:
        contents: the float file and the quantized one, by their names; nothing is
            said of one file alone.
        rows: what `measured` gives of them; where others are tried, all are timed
            together, and these rows take the new times.
        test: measures files against it; None: nothing is known of errors.
        on_step: called with a line of text before each step.

    Returns:
        Rows of the recipes that were tried, and notes.
    """
    if len(rows) < 2:
        return [], []
    before, after = rows
    is_poor = test is not None and after["sqnr_db"] < POOR_DB
    if not is_poor and not report.is_slower(after, before):
        return [], []
    name, model = after["name"], contents[before["name"]]
    made = _cheap(name, model, on_step=on_step) if test is not None else {}
    others = []
    if made:
        # A machine's load differs from one minute to the next.
        timed = measured(contents | made, test, on_step=on_step)
        others = timed[len(rows) :]
        for row, again in zip(rows, timed, strict=False):
            row["p50_us"] = again["p50_us"]
    notes = report.better_files([*rows, *others])
    return others, [note for note in notes if note.startswith(f"{name} ")]


def _cheap(name: str, model: bytes, *, on_step: OnStep) -> dict[str, bytes]:
    """Makes the recipes that need no samples."""
    found = {}
    for other in _CHEAP:
        if other == name:
            continue
        on_step(f"trying {other}")
        try:
            found[other] = quantization.quantize_tflite(model, other).tflite
        except errors.TfslimError as error:
            on_step(f"{other} is left out: {error}")
    return found
