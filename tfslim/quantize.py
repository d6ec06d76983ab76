"""Quantizes any float .tflite and measures what it costs.

  python -m tfslim.quantize model.tflite --data=folder:photos --preprocessing=symmetric
  python -m tfslim.quantize model.tflite --data=npz:set.npz --max_drop=0.5
  python -m tfslim.quantize model.tflite --recipe=dynamic_int8
  python -m tfslim.quantize model.tflite --data=digits --sensitivity=layers.png

Beside the output go NAME.ranges.json, which --ranges takes again, and NAME.json with
all figures. Files that tfslim wrote know their preprocessing; for others name it. Where
a file leaves its input's size open, the data decides, or --input_shape.
A file that is quantized already is passed on as it is. Without labels that fit the
model, --max_drop counts points of agreement with the float model.

Exit codes: 0 done, 1 the job failed (also where --max_drop cannot be met), 2 wrong
usage.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from tfslim import cli, errors

if TYPE_CHECKING:
    from tfslim.pipeline.file_data import Data
    from tfslim.quantization import (
        AccurateResult,
        LayerError,
        Options,
        QuantizeResult,
        Recipe,
    )

OnStep = Callable[[str], None]

_HARDLY_SMALLER = 0.95


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    text, number, switch = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_bool
    for name, default, help_text in (
        ("model", None, "The float .tflite; may also stand without --model=."),
        ("data", None, "digits, tfds:NAME, folder:PATH, npz:PATH or synthetic."),
        ("preprocessing", None, "raw, unit, symmetric, torch or caffe."),
        ("recipe", "int8", "int8, dynamic_int8, float16, …, or a .json of your own."),
        ("calibration", "auto", "auto, minmax, kl, mse, percentile, …"),
        ("rounding", "gptq", "Of weights: gptq, used where it helps, or nearest."),
        ("bias_correction", "full", "full, fast or none; used where it helps."),
        ("ranges", None, "A ranges.json to use instead of calibrating."),
        ("io", "float", "What inputs and outputs are: float, int8 or uint8."),
        ("layers", None, "Layers that take another recipe: conv_1=float32,block_2*=…"),
        ("task", "classification", "classification, regression or reconstruction."),
        ("out", None, "The file to write; default: MODEL_RECIPE.tflite."),
    ):
        text(name, default, help_text, flag_values=values)
    text(
        "input_shape",
        None,
        "Height, width and channels, 224,224,3, for a model that leaves some open; "
        "default: the data's own.",
        flag_values=values,
    )
    text(
        "sensitivity",
        None,
        "Quantize each layer alone and draw what it costs: a .png, .svg or .pdf.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_drop",
        None,
        "Return layers to float, worst first, until the accuracy has dropped by at "
        "most this many percentage points; without labels, the agreement with float.",
        flag_values=values,
    )
    switch("equalize", True, "Balance channels where it helps.", flag_values=values)
    for name, count, least, help_text in (
        ("samples", 300, 1, "Calibration samples."),
        ("eval_samples", 1000, 0, "Test examples; 0: do not test."),
        ("seed", 0, 0, "Of the samples' choice."),
    ):
        number(name, count, help_text, lower_bound=least, flag_values=values)
    switch("overwrite", False, "Replace existing files.", flag_values=values)


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim import output_paths, quantization, tflite
    from tfslim.pipeline import file_data
    from tfslim.report import progress, quantize_summary

    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: python -m tfslim.quantize model.tflite."
        )
    recipe = quantization.get_recipe(values.recipe)
    quantization.check_method(values.calibration)
    quantization.check_io(recipe, values.io)
    options = _options(values)
    out = output_paths.claim(values, recipe)
    model = tflite.open_file(values.model)
    given = quantization.read_ranges(values.ranges) if values.ranges else None
    data = file_data.load(values, model)
    model = data.model
    tflite.Runner(model)  # What the runtime refuses would fail later, less plainly.
    _check(values, recipe, model, data)
    with progress.steps() as on_step:
        if data.calibration is not None:
            tracked = on_step.track(data.calibration, "samples")
            data = dataclasses.replace(data, calibration=tracked)
        accurate = quantization.quantize_accurately(
            model,
            recipe,
            samples=data.calibration,
            options=options,
            ranges=given,
            on_step=on_step,
        )
        done, report, is_met = _examine(values, recipe, model, accurate, data, on_step)
    _write(values, out, model, done, report)
    cli.say(quantize_summary.to_text(report, out))
    if not is_met:
        goal = report["goal"]
        ends = "" if values.io == "float" else f", but {values.io} inputs and outputs,"
        raise errors.QuantizationError(
            f"{out} is written, but {goal['key']} {goal['least']:.4f} (a drop of at "
            f"most {values.max_drop:g} points) cannot be met: with all layers in "
            f"float{ends} it is lower. Test on more examples."
        )


def _examine(
    values: flags.FlagValues,
    recipe: Recipe,
    model: bytes,
    accurate: AccurateResult,
    data: Data,
    on_step: OnStep,
) -> tuple[QuantizeResult, dict[str, Any], bool]:
    """Returns what is to be written, the report, and whether `--max_drop` is met."""
    from tfslim import quantization
    from tfslim.pipeline import file_verdict

    report: dict[str, Any] = {
        "model": values.model,
        "recipe": recipe.name,
        "steps": accurate.steps,
        "taken": accurate.taken,
        "outputs": accurate.outputs,
    }
    done, is_met = accurate.quantized, True
    ranked = functools.cache(lambda: _rank(recipe, accurate, data, report, on_step))
    if values.sensitivity is not None:
        quantization.plot_layers(ranked(), values.sensitivity)
    if values.max_drop is not None:
        done, is_met = _fall_back(
            values, recipe, accurate, data, report, ranked, on_step
        )
    name = "quantized" if recipe.name == "float" else recipe.name
    contents = {"float": model, name: done.tflite}
    if done.note:
        contents = {"as given": model}
    elif data.test is not None and is_met:
        file_verdict.require_fit(name, done.tflite, model, data.test, on_step)
    report["files"] = file_verdict.measured(contents, data.test, on_step)
    report["alternatives"], report["better"] = [], []
    if len(contents) > 1:
        report["alternatives"], report["better"] = file_verdict.better(
            contents, report["files"], data.test, on_step
        )
    _explain(report, accurate.source, done, data, on_step)
    return done, report, is_met


def _options(values: flags.FlagValues) -> Options:
    from tfslim import quantization

    return quantization.Options(
        calibration=values.calibration,
        equalize=values.equalize,
        rounding=values.rounding,
        bias_correction=values.bias_correction,
        io=values.io,
        layers=_layers(values.layers),
    )


def _write(
    values: flags.FlagValues,
    out: Path,
    model: bytes,
    done: QuantizeResult,
    report: dict[str, Any],
) -> None:
    from tfslim import files, output_paths, quantization

    files.write_bytes(out, done.tflite)
    files.write_json(out.with_suffix(".json"), report)
    ranges = output_paths.ranges_path(out)
    if done.calibration is not None and not output_paths.is_same(ranges, values.ranges):
        quantization.write_ranges(ranges, done.calibration, model)


def _explain(
    report: dict[str, Any],
    source: bytes,
    done: QuantizeResult,
    data: Data,
    on_step: OnStep,
) -> None:
    """Adds what stayed float, how the methods compared and what is wrong."""
    from tfslim import quantization

    report["kept_float"] = _rows(done.kept_float)
    calibration = done.calibration
    report["trials"] = _rows(calibration.trials) if calibration else []
    report["notes"] = [*([done.note] if done.note else []), *data.notes]
    report["notes"] += report.pop("better")
    if data.test is not None and not data.test.has_labels:
        report["notes"].append(
            "The data has no labels that fit the model's output: files are compared "
            "with the float file alone."
        )
    if data.test is not None and data.test.doubt:
        report["notes"].append(data.test.doubt)
    if data.test is not None and data.test.scored is not None:
        report["notes"].append(f"The labels are those of output {data.test.scored}.")
    size_bytes = report["files"][0]["size_bytes"]
    if not done.note and len(done.tflite) > _HARDLY_SMALLER * size_bytes:
        report["notes"].append(
            "The file is hardly smaller than the float one: it has few weights, or "
            "most of them stay float."
        )
    report["findings"] = []
    if calibration is not None and data.unseen is not None:
        on_step("looking for faults")
        found = quantization.diagnose(source, done.tflite, calibration, data.unseen)
        report["findings"] = _rows(found)


def _layers(text: str | None) -> dict[str, str]:
    """Reads "conv_1=float32,block_2*=float16"."""
    layers = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, recipe = part.rpartition("=")
        if not equals:
            raise errors.ConfigError(
                f"'{part}' in --layers has no recipe. Write NAME=float32,..."
            )
        layers[name] = recipe
    return layers


def _check(values: flags.FlagValues, recipe: Recipe, model: bytes, data: Data) -> None:
    """Refuses before the work what would fail after it."""
    from tfslim import quantization, tflite

    if values.sensitivity is not None:
        quantization.check_plot(values.sensitivity)
    for flag in ("max_drop", "sensitivity"):
        if getattr(values, flag) is None:
            continue
        if recipe.scheme != "static_int8":
            raise errors.ConfigError(
                f"--{flag} is for layers in INT8; the recipe is '{recipe.name}'. Use "
                "--recipe=int8."
            )
        if data.calibration is None:
            raise errors.ConfigError(f"--{flag} needs --data.")
        if tflite.read(model).is_quantized:
            raise errors.ConfigError(
                f"'{values.model}' is quantized already: --{flag} needs the float32 "
                ".tflite that it was made from."
            )
    if values.max_drop is None:
        return
    if not math.isfinite(values.max_drop):
        raise errors.ConfigError(
            f"--max_drop must be a number of points, got {values.max_drop}."
        )
    if data.test is None:
        raise errors.ConfigError("--max_drop needs --eval_samples above 0.")
    if values.layers:
        raise errors.ConfigError("--max_drop chooses the layers: leave out --layers.")


def _rank(
    recipe: Recipe,
    accurate: AccurateResult,
    data: Data,
    report: dict[str, Any],
    on_step: OnStep,
) -> list[LayerError]:
    """Ranks the layers and notes it in the report."""
    from tfslim import quantization

    calibration = accurate.quantized.calibration
    assert calibration is not None and data.calibration is not None  # noqa: S101 - INT8.
    few = list(itertools.islice(data.calibration, 32))
    rows = quantization.rank_layers(
        accurate.source, calibration, few, recipe_name=recipe, on_step=on_step
    )
    report["sensitivity"] = _rows(rows)
    return rows


def _fall_back(
    values: flags.FlagValues,
    recipe: Recipe,
    accurate: AccurateResult,
    data: Data,
    report: dict[str, Any],
    ranked: Callable[[], list[LayerError]],
    on_step: OnStep,
) -> tuple[QuantizeResult, bool]:
    """Returns layers to float where INT8 costs more than `--max_drop`."""
    from tfslim import quantization

    test, done = data.test, accurate.quantized
    assert test is not None and data.calibration is not None  # noqa: S101 - `_check`.
    assert done.calibration is not None  # noqa: S101 - the recipe is INT8.
    goal = test.goal(values.max_drop)
    report["goal"] = dataclasses.asdict(goal)
    on_step(f"--max_drop by {goal.key}: {goal.reason}")
    if test(done.tflite)[goal.key] >= goal.least:
        on_step("INT8 is good enough: no layer returns to float")
        return done, True
    found = quantization.fall_back(
        accurate.source,
        done.calibration,
        ranked(),
        evaluate=lambda content: test(content)[goal.key],
        least=goal.least,
        recipe_name=recipe,
        improver=quantization.Improver(
            data.model,
            data.calibration,
            rounding=values.rounding,
            bias_correction=values.bias_correction,
        ),
        latency=_latency,
        io=values.io,
        on_step=on_step,
    )
    report["fallback"] = _rows(found.steps)
    equalized = [step for step in accurate.taken if step == "equalized"]
    report |= {"taken": [*equalized, *found.taken], "outputs": found.outputs}
    return found.quantized, found.is_met


def _latency(content: bytes) -> float | None:
    from tfslim import benchmark

    options = benchmark.Options(num_runs=20, rounds=2)
    return benchmark.run_host({"": content}, options)[0].latency.p50


def _rows(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(value) for value in values]


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    doc = __doc__ or ""
    return cli.run("tfslim.quantize", doc, define_flags, _run, argv, plain="model")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
