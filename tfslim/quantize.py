"""Quantizes any float .tflite and measures what it costs.

  tfslim quantize model.tflite --data=folder:photos --preprocessing=symmetric
  tfslim quantize model.tflite --data=npz:set.npz --max_drop=0.5
  tfslim quantize model.tflite --recipe=dynamic_int8
  tfslim quantize model.tflite --data=folder:photos --target=full_integer
  tfslim quantize model.tflite --data=digits --sensitivity=layers.png

Beside the output go NAME.ranges.json, which --ranges takes again, and NAME.json with
all figures. Files that tfslim wrote know their preprocessing; for others name it. Where
a file leaves its input's size open, the data decides, or --input_shape.
--target says where the file is to run: xnnpack (phones and computers), full_integer
(Edge TPU, Ethos-U, microcontrollers, NPUs: no float op) or gpu; see docs/targets.md.
What cannot be made for it is named with its layer, and nothing is written.
A file that is quantized already is passed on as it is. Without labels that fit the
model, --max_drop counts points of agreement with the float model.

Exit codes: 0 done, 1 the job failed (also where --max_drop cannot be met), 2 wrong
usage.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from tfslim import cli, errors, settings, targets

if TYPE_CHECKING:
    from tfslim.pipeline.file_data import Data


# Flags that are fields of a config, too.
_SHARED = ("target", "calibration", "equalize", "rounding", "bias_correction", "io")


_FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("model", str, "The float .tflite."),
    ("data", str, "digits, tfds:NAME, folder:PATH, npz:PATH or synthetic."),
    ("preprocessing", str, "raw, unit, symmetric, torch or caffe."),
    (
        "recipe",
        str,
        "How it is quantized, see below; or a .json of your own. Default: int8; "
        "float16 for the target gpu.",
    ),
    ("ranges", str, "A ranges.json to use instead of calibrating."),
    *(
        (name, str if field.default is None else field.default, help_text)
        for name in _SHARED
        for field in [settings.FIELDS[f"quantization.{name}"]]
        for help_text in [settings.limits(field).help]
    ),
    ("layers", str, "Layers that take another recipe: conv_1=float32,block_2*=…"),
    ("task", "classification", "classification, regression or reconstruction."),
    ("out", str, "The file to write, or a folder; default: MODEL_RECIPE.tflite."),
    (
        "input_shape",
        str,
        "Height, width and channels, 224,224,3, for a model that leaves some open; "
        "default: the data's own.",
    ),
    (
        "sensitivity",
        str,
        "Quantize each layer alone and draw what it costs: a .png, .svg or .pdf.",
    ),
    (
        "max_drop",
        float,
        "Return layers to float, worst first, until the accuracy has dropped by at "
        "most this many percentage points; without labels, the agreement with "
        "float.",
    ),
    ("overwrite", False, "Replace existing files."),
)

_COSTS = (
    "costs",
    "auto",
    "Whose times decide which ops stay float: measure (of single ops, here, once), "
    "android (on the phone), a table's .json, auto (this device's, if it has all), or "
    "shipped (the table of tfslim).",
)


def __getattr__(name: str) -> Any:
    if name != "command":
        raise AttributeError(f"module 'tfslim.quantize' has no attribute {name!r}")
    text = "tfslim.quantize.command is called tfslim.quantize now."
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return sys.modules[__name__]


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(values, *_FLAGS, _COSTS)
    for name, count, least, help_text in (
        ("samples", 300, 1, "Calibration samples."),
        ("eval_samples", 1000, 0, "Test examples; 0: do not test."),
        ("seed", 0, 0, "Of the random choice of samples."),
    ):
        flags.DEFINE_integer(
            name, count, help_text, lower_bound=least, flag_values=values
        )


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim import output_paths, quantization, tflite
    from tfslim.pipeline import quantize_file
    from tfslim.report import progress, quantize_summary

    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: tfslim quantize model.tflite."
        )
    default = targets.get(values.target).recipes[-1]
    recipe = quantization.get_recipe(values.recipe or default)
    options = quantization.Options(
        **{name: values[name].value for name in _SHARED}, layers=_layers(values.layers)
    ).for_target(recipe.scheme, recipe.name)
    quantization.check_io(recipe, options.io or "float")
    out = output_paths.output_path(
        recipe,
        {name: values[name].value for name in ("model", "recipe", "ranges")},
        out=values.out,
        sensitivity=values.sensitivity,
        overwrite=values.overwrite,
    )
    model = tflite.open_file(values.model)
    wanted = quantize_file.Wanted(
        model=values.model,
        recipe=recipe,
        options=options,
        ranges=quantization.read_ranges(values.ranges) if values.ranges else None,
        max_drop=values.max_drop,
        sensitivity=values.sensitivity,
        costs=values.costs,
    )
    data = _data(values, model)
    tflite.Runner(data.model)  # What the runtime refuses fails here more plainly.
    quantize_file.check(wanted, data)
    with progress.steps() as on_step:
        made = quantize_file.quantize_file(
            data.tracked(on_step), wanted, on_step=on_step
        )
    ranges = output_paths.ranges_path(out)
    keeps_ranges = not output_paths.is_same(ranges, values.ranges)
    quantize_file.write(made, data, out=out, ranges=ranges if keeps_ranges else None)
    cli.say(quantize_summary.to_text(made.report, out))
    if not made.is_met:
        raise _missed(made.report["goal"], out, max_drop=values.max_drop, io=options.io)


def _missed(
    goal: Mapping[str, Any], out: Path, *, max_drop: float, io: str | None
) -> errors.QuantizationError:
    ends = f", but {io} inputs and outputs," if io != "float" else ""
    return errors.QuantizationError(
        f"{out} is written, but {goal['key']} {goal['least']:.4f} (a drop of at most "
        f"{max_drop:g} points) cannot be met: with all layers in float{ends} it is "
        "lower. Test on more examples."
    )


def _data(values: flags.FlagValues, model: bytes) -> Data:
    from tfslim.data.file_inputs import FeedOptions
    from tfslim.pipeline import file_data

    if values.data is None:
        return file_data.Data(model)
    feed = FeedOptions(
        data=values.data,
        preprocessing=values.preprocessing,
        input_shape=values.input_shape or "",
        seed=values.seed,
        model=f"'{values.model}'",
    )
    return file_data.load(
        model,
        feed,
        task=values.task,
        num_samples=values.samples,
        num_test=values.eval_samples,
    )


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


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run, "tfslim.quantize", __doc__ or "", define_flags, _run, plain="model"
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
