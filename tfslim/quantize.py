"""Quantizes any float .tflite and measures what it costs.

  python -m tfslim.quantize model.tflite --data=folder:photos --preprocessing=symmetric
  python -m tfslim.quantize model.tflite --data=npz:set.npz --max_drop=0.5
  python -m tfslim.quantize model.tflite --recipe=dynamic_int8

Beside the output go NAME.ranges.json, which --ranges takes again, and NAME.json with
all figures. Files that tfslim wrote know their preprocessing; for others name it.

Exit codes: 0 done, 1 the job failed (also where --max_drop cannot be met), 2 wrong
usage.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from tfslim import cli, errors


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
    flags.DEFINE_float(
        "max_drop",
        None,
        "Return layers to float, worst first, until the metric has dropped by at most "
        "this many percentage points.",
        flag_values=values,
    )
    switch("equalize", True, "Balance channels where it helps.", flag_values=values)
    number("samples", 300, "Calibration samples.", flag_values=values)
    number("eval_samples", 1000, "Test examples; 0: do not test.", flag_values=values)
    number("seed", 0, "Of the samples' choice.", flag_values=values)
    switch("overwrite", False, "Replace existing files.", flag_values=values)


@dataclasses.dataclass(frozen=True)
class _Data:
    """What `--data` gives: calibration samples, and a test."""

    calibration: Any
    unseen: Any
    test: Callable[[bytes], dict[str, float]] | None


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim import files, quantization
    from tfslim.report import progress
    from tfslim.tflite import flatbuffer

    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: python -m tfslim.quantize model.tflite."
        )
    recipe = quantization.get_recipe(values.recipe)
    quantization.check_method(values.calibration)
    options = quantization.Options(
        calibration=values.calibration,
        equalize=values.equalize,
        rounding=values.rounding,
        bias_correction=values.bias_correction,
        io=values.io,
        layers=_layers(values.layers),
    )
    out = _claim(values, recipe.name)
    model = flatbuffer.read_file(values.model)
    given = quantization.read_ranges(values.ranges) if values.ranges else None
    data = _load_data(values, model)
    if values.max_drop is not None:
        _check_fallback(values, recipe, data)
    with progress.steps() as on_step:
        accurate = quantization.quantize_accurately(
            model,
            recipe,
            samples=data.calibration,
            options=options,
            ranges=given,
            on_step=on_step,
        )
        report: dict[str, Any] = {
            "model": values.model,
            "recipe": recipe.name,
            "steps": accurate.steps,
            "taken": accurate.taken,
        }
        done, is_met = accurate.quantized, True
        if values.max_drop is not None:
            done, is_met = _fall_back(values, model, accurate, data, report, on_step)
        contents = {"float": model, recipe.name: done.tflite}
        report["files"] = _measure(contents, data.test, on_step)
        _explain(report, accurate.source, done, data, on_step)
    files.write_bytes(out, done.tflite)
    files.write_json(out.with_suffix(".json"), report)
    if done.calibration is not None:
        quantization.write_ranges(
            out.with_suffix(".ranges.json"), done.calibration, model
        )
    sys.stdout.write(_summary(report, out))
    if not is_met:
        raise errors.QuantizationError(
            f"{out} is written, but a drop of at most {values.max_drop} points cannot "
            "be met: with all layers in float it is larger. Test on more examples."
        )


def _explain(
    report: dict[str, Any],
    source: bytes,
    done: Any,
    data: _Data,
    on_step: Callable[[str], None],
) -> None:
    """Adds what stayed float, how the methods compared and what is wrong."""
    from tfslim import quantization

    report["kept_float"] = _rows(done.kept_float)
    calibration = done.calibration
    report["trials"] = _rows(calibration.trials) if calibration else []
    report["findings"] = []
    if calibration is not None and data.unseen is not None:
        on_step("looking for faults")
        found = quantization.diagnose(
            source, done.tflite, calibration.ranges, data.unseen
        )
        report["findings"] = _rows(found)


def _claim(values: flags.FlagValues, recipe: str) -> Path:
    model = Path(values.model)
    out = Path(values.out or model.with_name(f"{model.stem}_{recipe}.tflite"))
    if out.suffix != ".tflite":
        raise errors.ConfigError(f"--out must end with .tflite, got '{out}'.")
    if out.resolve() == model.resolve():
        raise errors.ConfigError(f"--out is the model itself, '{out}'. Name another.")
    if out.exists() and not values.overwrite:
        raise errors.ConfigError(
            f"{out} exists. Pass --overwrite to replace it, or choose another --out."
        )
    return out


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


def _load_data(values: flags.FlagValues, model: bytes) -> _Data:
    if values.data is None:
        return _Data(None, None, None)
    from tfslim import data, tasks, verify

    prepare = _preprocessing(values, model)
    dataset = data.load(values.data, seed=values.seed)
    task = tasks.resolve(values.task)
    samples = data.calibration_samples(
        dataset.train, prepare, values.samples, values.seed
    )
    unseen = data.calibration_samples(dataset.test, prepare, 32, values.seed)
    if not values.eval_samples:
        return _Data(samples, unseen, None)
    order = np.random.default_rng(values.seed).permutation(len(dataset.test))
    chosen = data.Subset(dataset.test, np.sort(order[: values.eval_samples]))
    reference: list[np.ndarray] = []

    def test(content: bytes) -> dict[str, float]:
        predict = verify.Predictor(content)
        rows = [(predict(x), x, y) for x, y in data.batches(chosen, prepare, 64)]
        outputs = [
            np.concatenate(part) for part in zip(*(r[0] for r in rows), strict=True)
        ]
        targets = np.concatenate([task.target(x, y) for _, x, y in rows])
        if not reference:  # The float file comes first.
            reference.extend(outputs)
        return {
            task.metric_name: float(task.metric(outputs[0], targets)),
            task.agreement_name: float(task.agreement(reference[0], outputs[0])),
            "sqnr_db": min(
                float(tasks.sqnr_db(truth, found))
                for truth, found in zip(reference, outputs, strict=True)
            ),
        }

    return _Data(samples, unseen, test)


def _preprocessing(values: flags.FlagValues, model: bytes) -> Any:
    """Takes the file's own, or the one named."""
    from tfslim import preprocessing, tflite
    from tfslim.tflite import metadata

    content = tflite.read(model)
    if len(content.inputs) != 1:
        raise errors.ConfigError(
            f"The model has {len(content.inputs)} inputs; --data feeds one. Use "
            "tfslim.quantize_tflite(model, samples=...) with dicts of arrays."
        )
    if values.preprocessing is not None:
        shape = content.inputs[0].shape[1:]
        return preprocessing.preset(values.preprocessing, shape)
    known = (metadata.get_json(content) or {}).get("preprocessing")
    if known is None:
        raise errors.ConfigError(
            f"'{values.model}' does not say how its inputs are preprocessed. Name it "
            f"with --preprocessing: {', '.join(preprocessing.PRESETS)}."
        )
    return preprocessing.Preprocessing.from_json(known)


def _check_fallback(values: flags.FlagValues, recipe: Any, data: _Data) -> None:
    if recipe.scheme != "static_int8":
        raise errors.ConfigError(
            f"--max_drop returns layers from INT8 to float; the recipe is "
            f"'{recipe.name}'. Use --recipe=int8."
        )
    if data.test is None:
        raise errors.ConfigError("--max_drop needs --data and --eval_samples above 0.")
    if values.task != "classification":
        raise errors.ConfigError(
            "--max_drop is in points of accuracy: it needs --task=classification."
        )
    if values.layers:
        raise errors.ConfigError("--max_drop chooses the layers: leave out --layers.")


def _fall_back(
    values: flags.FlagValues,
    model: bytes,
    accurate: Any,
    data: _Data,
    report: dict[str, Any],
    on_step: Callable[[str], None],
) -> tuple[Any, bool]:
    """Returns layers to float where INT8 costs more than `--max_drop`."""
    import itertools

    from tfslim import quantization

    assert data.test is not None  # noqa: S101 - _check_fallback has seen to it.
    test, done, source = data.test, accurate.quantized, accurate.source
    least = test(model)["accuracy"] - values.max_drop / 100.0
    if test(done.tflite)["accuracy"] >= least:
        on_step("INT8 keeps the accuracy: no layer returns to float")
        return done, True
    few = list(itertools.islice(data.calibration, 32))
    ranking = quantization.rank_layers(source, done.calibration, few, on_step=on_step)

    found = quantization.fall_back(
        source,
        done.calibration,
        ranking,
        evaluate=lambda content: test(content)["accuracy"],
        least=least,
        improver=quantization.Improver(
            model,
            data.calibration,
            rounding=values.rounding,
            bias_correction=values.bias_correction,
        ),
        latency=_latency,
        io=values.io,
        on_step=on_step,
    )
    report |= {"sensitivity": _rows(ranking), "fallback": _rows(found.steps)}
    return found.quantized, found.is_met


def _latency(content: bytes) -> float | None:
    from tfslim import benchmark

    options = benchmark.Options(num_runs=20, rounds=2)
    return benchmark.run_host({"": content}, options)[0].latency.p50


def _measure(
    contents: dict[str, bytes],
    test: Callable[[bytes], dict[str, float]] | None,
    on_step: Callable[[str], None],
) -> list[dict[str, Any]]:
    from tfslim import benchmark

    on_step("timing")
    timings = benchmark.run_host(contents, benchmark.Options(num_runs=30, rounds=5))
    rows = []
    for (name, content), timing in zip(contents.items(), timings, strict=True):
        on_step(f"testing {name}")
        row = {"name": name, "size_bytes": len(content), "p50_us": timing.latency.p50}
        rows.append(row | (test(content) if test is not None else {}))
    return rows


def _rows(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(value) for value in values]


def _summary(report: dict[str, Any], out: Path) -> str:
    lines = []
    for trial in report.get("trials", []):
        lines.append(f"  {trial['method']:<16} {trial['sqnr_db']:6.2f} dB on held-out")
    for step, sqnr_db in report["steps"].items():
        used = "" if step == "plain" or step in report["taken"] else " (not used)"
        lines.append(f"  {step:<22} {sqnr_db:6.2f} dB{used}")
    for step in report.get("fallback", [])[1:]:
        lines.append(
            f"  {step['layer']} in float: {step['metric']:.4f}, "
            f"{step['size_bytes'] / 1000:,.0f} kB, {step['latency_us'] / 1000:.3f} ms"
        )
    for row in report["files"]:
        facts = [
            f"{row['size_bytes'] / 1000:,.0f} kB",
            f"{row['p50_us'] / 1000:.3f} ms",
        ]
        measured = {k: v for k, v in row.items() if k not in ("name", "size_bytes")}
        measured.pop("p50_us")
        facts += [f"{key} {value:.4g}" for key, value in measured.items()]
        lines.append(f"{row['name']:<18} {', '.join(facts)}")
    if report["kept_float"]:
        ops = [row["op"] for row in report["kept_float"]]
        counts = [f"{ops.count(op)} {op}" for op in dict.fromkeys(ops)]
        lines.append(f"in float: {', '.join(counts)}")
    for finding in report["findings"]:
        lines.append(f"{finding['kind']}, {finding['where']}: {finding['text']}")
    return "\n".join([*lines, f"{out} is written.", ""])


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    arguments = list(argv)
    if len(arguments) > 1 and not arguments[1].startswith("-"):
        arguments[1] = f"--model={arguments[1]}"
    return cli.run("tfslim.quantize", __doc__ or "", define_flags, _run, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
