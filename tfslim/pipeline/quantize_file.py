"""One `.tflite` quantized, measured and explained: what `tfslim.quantize` does."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfslim import benchmark, errors, files, quantization, tflite
from tfslim.pipeline import cost_split, file_verdict
from tfslim.pipeline.file_data import Data

OnStep = Callable[[str], None]

_HARDLY_SMALLER = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is made of a file.

    Attributes:
        model: what to call the float file.
        recipe: of the file.
        options: how it is quantized.
        ranges: to use instead of calibrating.
        max_drop: points that the accuracy may drop; None: as it comes.
        sensitivity: the picture to draw of what each layer costs; None: none.
        costs: where the times of single ops come from, see `cost_split`.
    """

    model: str
    recipe: quantization.Recipe
    options: quantization.Options
    ranges: quantization.GivenRanges | None = None
    max_drop: float | None = None
    sensitivity: Path | str | None = None
    costs: str = "auto"


@dataclasses.dataclass(frozen=True, eq=False)
class QuantizedFile:
    """The file, and all there is to say of it.

    Attributes:
        quantized: the file.
        report: the content of the JSON beside it.
        is_met: whether `max_drop` is.
    """

    quantized: quantization.QuantizeResult
    report: dict[str, Any]
    is_met: bool


def check(wanted: Wanted, data: Data) -> None:
    """Raises ConfigError before the work for what would fail after it."""
    cost_split.check(wanted.costs)
    if wanted.sensitivity is not None:
        quantization.check_plot(wanted.sensitivity)
    for flag in ("max_drop", "sensitivity"):
        if getattr(wanted, flag) is None:
            continue
        if wanted.recipe.scheme != "static_int8":
            raise errors.ConfigError(
                f"--{flag} is for layers in INT8; the recipe is "
                f"'{wanted.recipe.name}'. Use --recipe=int8."
            )
        if data.calibration is None:
            raise errors.ConfigError(f"--{flag} needs --data.")
        if tflite.read(data.model).is_quantized:
            raise errors.ConfigError(
                f"'{wanted.model}' is quantized already: --{flag} needs the float32 "
                ".tflite that it was made from."
            )
    if wanted.max_drop is None:
        return
    if not wanted.options.placed.allows_float:
        raise errors.ConfigError(
            f"--max_drop returns layers to float, and the target "
            f"'{wanted.options.placed.name}' has none."
        )
    if not math.isfinite(wanted.max_drop):
        raise errors.ConfigError(
            f"--max_drop must be a number of points, got {wanted.max_drop}."
        )
    if data.test is None:
        raise errors.ConfigError("--max_drop needs --eval_samples above 0.")
    if wanted.options.layers:
        raise errors.ConfigError("--max_drop chooses the layers: leave out --layers.")


def quantize_file(data: Data, wanted: Wanted, *, on_step: OnStep) -> QuantizedFile:
    """Quantizes a file, falls back where that is asked for, and measures the result.

    Args:
        data: the float file, samples and a test; see `file_data.load`.
        wanted: what to make; `check` refuses what cannot be.
        on_step: called with a line of text before each step.

    Raises:
        QuantizationError: the file is useless; names recipes that are not.
    """
    recipe, model = wanted.recipe, data.model
    wanted, choice = _by_cost(data, wanted, on_step=on_step)
    accurate = quantization.quantize_accurately(
        model,
        recipe,
        samples=data.calibration,
        options=wanted.options,
        ranges=wanted.ranges,
        passes=data.passes,
        on_step=on_step,
    )
    found: dict[str, Any] = {}

    @functools.cache
    def ranking() -> list[quantization.LayerError]:
        assert data.calibration is not None  # noqa: S101 - `check` has seen to it.
        rows = quantization.rank(accurate, data.calibration, on_step=on_step)
        found["sensitivity"] = _rows(rows)
        return rows

    if wanted.sensitivity is not None:
        quantization.plot_layers(ranking(), wanted.sensitivity)
    best, is_met = accurate, True
    if wanted.max_drop is not None:
        best, is_met, way = _fall_back(
            accurate, data, wanted=wanted, ranking=ranking, on_step=on_step
        )
        found |= way
    done = best.quantized
    name = "quantized" if recipe.name == "float" else recipe.name
    both = {"float": model, name: done.tflite}
    contents = {"as given": model} if done.note else both
    if not done.note and data.test is not None and is_met:
        file_verdict.require_fit(
            name, done.tflite, model=model, test=data.test, on_step=on_step
        )
    found |= {"steps": accurate.steps, "taken": best.taken, "outputs": best.outputs}
    found |= _figures(contents, data, done=done, wanted=wanted, on_step=on_step)
    found["notes"] = [*choice.notes, *found["notes"]]
    report = {
        "model": wanted.model,
        "recipe": recipe.name,
        **found,
        "kept_float": cost_split.with_reasons(done.kept_float, choice.reasons),
        "costs": choice.report,
        "trials": _trials(done),
        "findings": _findings(best, data, on_step=on_step),
    }
    return QuantizedFile(done, report, is_met)


def _figures(
    contents: dict[str, bytes],
    data: Data,
    *,
    done: quantization.QuantizeResult,
    wanted: Wanted,
    on_step: OnStep,
) -> dict[str, Any]:
    """Returns what was measured of the files, and what is to be said of it."""
    rows = file_verdict.measured(contents, data.test, on_step=on_step)
    others, better = file_verdict.better(
        contents, rows, test=data.test, on_step=on_step
    )
    notes = _notes(done, data, better=better, rows=rows, options=wanted.options)
    return {"files": rows, "alternatives": others, "notes": list(notes)}


def _trials(done: quantization.QuantizeResult) -> list[dict[str, Any]]:
    return _rows(done.calibration.trials) if done.calibration else []


def _by_cost(
    data: Data, wanted: Wanted, *, on_step: OnStep
) -> tuple[Wanted, cost_split.Choice]:
    """Lets those ops stay float that are measured faster so."""
    choice = cost_split.choose(
        data.model,
        wanted.recipe,
        options=wanted.options,
        samples=data.calibration,
        mode=wanted.costs,
        on_step=on_step,
    )
    if not choice.layers:
        return wanted, choice
    options = dataclasses.replace(wanted.options, layers=choice.layers)
    return dataclasses.replace(wanted, options=options), choice


def _fall_back(
    accurate: quantization.AccurateResult,
    data: Data,
    *,
    wanted: Wanted,
    ranking: Callable[[], list[quantization.LayerError]],
    on_step: OnStep,
) -> tuple[quantization.AccurateResult, bool, dict[str, Any]]:
    """Returns layers to float where INT8 costs more than `max_drop`."""
    test, max_drop = data.test, wanted.max_drop
    assert test and data.calibration and max_drop is not None  # noqa: S101 - `check`.
    goal = test.goal(max_drop)
    on_step(f"--max_drop by {goal.key}: {goal.reason}")
    fallen = quantization.keep_accuracy(
        accurate,
        data.model,
        samples=data.calibration,
        evaluate=lambda content: float(test(content)[goal.key]),
        least=goal.least,
        options=wanted.options,
        ranking=ranking,
        latency=_latency,
        passes=data.passes,
        on_step=on_step,
    )
    way: dict[str, Any] = {"goal": dataclasses.asdict(goal)}
    if fallen.steps:
        way["fallback"] = _rows(fallen.steps)
    return fallen.accurate, fallen.is_met, way


def _latency(content: bytes) -> float | None:
    options = benchmark.Options(num_runs=20, rounds=2)
    return benchmark.run_host({"": content}, options)[0].latency.p50


def _notes(
    done: quantization.QuantizeResult,
    data: Data,
    *,
    better: list[str],
    rows: list[dict[str, Any]],
    options: quantization.Options,
) -> list[str]:
    notes = [*([done.note] if done.note else []), *data.notes, *better]
    test = data.test
    if test is not None and not test.has_labels:
        notes.append(
            "The data has no labels that fit the model's output: files are compared "
            "with the float file alone."
        )
    if test is not None and test.doubt:
        notes.append(test.doubt)
    if test is not None and test.scored_name is not None:
        notes.append(f"The labels are those of output {test.scored_name}.")
    if not done.note and len(done.tflite) > _HARDLY_SMALLER * rows[0]["size_bytes"]:
        notes.append(
            "The file is hardly smaller than the float one: it has few weights, or "
            "most of them stay float."
        )
    is_poor = rows[-1].get("sqnr_db", math.inf) < file_verdict.POOR_DB
    if is_poor and done.calibration and options.calibration != "auto":
        notes.append("A few odd samples may widen the ranges: try --calibration=auto.")
    return notes


def _findings(
    best: quantization.AccurateResult, data: Data, *, on_step: OnStep
) -> list[dict[str, Any]]:
    """Looks for what is wrong with a file."""
    done = best.quantized
    if done.calibration is None or data.unseen is None:
        return []
    on_step("looking for faults")
    found = quantization.diagnose(
        best.source, done.tflite, ranges=done.calibration, samples=data.unseen
    )
    return _rows(found)


def _rows(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(value) for value in values]


def write(made: QuantizedFile, data: Data, *, out: Path, ranges: Path | None) -> None:
    """Writes the file, its report beside it, and its ranges for another run.

    Args:
        made: what was made.
        data: what it was made of.
        out: the file.
        ranges: where the ranges go; None: nowhere.
    """
    files.write_bytes(out, made.quantized.tflite)
    files.write_json(out.with_suffix(".json"), made.report)
    calibration = made.quantized.calibration
    if calibration is not None and ranges is not None:
        quantization.write_ranges(ranges, calibration, model=data.model)
