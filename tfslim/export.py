"""Builds or loads a model, trains it, and exports verified, timed .tflite files.

With no flags it runs configs/quickstart.py: a ResNet-18 on scikit-learn's digits.
Into --out go model.keras, one .tflite a variant, the resolved config, result.json,
report.md and report.html; manifest.json comes last and makes them one whole result. A
variant that cannot be made is left out with its reason. A .tflite as the model is
quantized, verified, timed and reported as it is.

  tfslim export mobilenet_v2:alpha=0.35 --data=digits --epochs=5
  tfslim export my_model.h5 --data=folder:photos
  tfslim export float.tflite --data=folder:photos --recipe=float16,int8
  tfslim export --config=my_config.py --config.training.epochs=3

Exit codes: 0 done, 1 the job failed (also where a variant that --recipe names cannot
be made, or --max_drop cannot be met: all else is written), 2 wrong usage.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from tfslim import cli
from tfslim import config as config_lib

# Name, default or type, and help of each flag.
_FLAGS: tuple[tuple[str, Any, str], ...] = (
    (
        "model",
        str,
        "A model of the zoo with its options, mobilenet_v2:alpha=0.35,dropout_rate=0.; "
        "a .keras, .h5 or SavedModel of either Keras; my_module:my_function; "
        "keras.applications.MobileNetV2:weights=None; or a float .tflite.",
    ),
    ("data", str, "digits, tfds:NAME, folder:PATH, npz:PATH or synthetic."),
    ("preprocessing", str, "Of an opened model: raw, unit, symmetric, torch or caffe."),
    (
        "preprocess",
        str,
        "inside: the files take pixels in 0..255 and normalize them; outside: the app "
        "does. Default: outside, but inside where --io=uint8 needs it.",
    ),
    ("recipe", str, "How files are quantized, several by comma; see below."),
    ("calibration", str, "How INT8 ranges are chosen: minmax, kl, mse, percentile, …"),
    ("ranges", str, "The ranges.json of an earlier run, instead of calibrating."),
    (
        "target",
        str,
        "Where the files are to run: xnnpack (phones and computers), full_integer "
        "(Edge TPU, Ethos-U, TFLM, NPUs), gpu, or a .json (docs/targets.md).",
    ),
    ("io", str, "What inputs and outputs of INT8 are: float, int8 or uint8."),
    (
        "prune",
        str,
        "Remove channels: channels:0.5, or channels:criterion=taylor,ratio=0.4; "
        "options are the fields of config.prune.",
    ),
    (
        "factorize",
        str,
        "Replace kernels by low-rank ones: tucker:energy=0.9, tucker+svd:target=0.5; "
        "options are the fields of config.factorize.",
    ),
    (
        "steps",
        str,
        "What makes the model smaller, in this order, by spaces: 'width:0.5 "
        "slim:0.6,passes=2 quantize'. Steps: cluster, distill, factorize, prune, "
        "quantize, slim, sparsify, width; options are the fields of their sections.",
    ),
    (
        "strategy",
        str,
        "How training is spread: none, mirrored (all GPUs of this machine) or "
        "multiworker (the machines that TF_CONFIG names; docs/training.md).",
    ),
    (
        "benchmark",
        str,
        "Where files are timed, by comma: host, android; empty: nowhere.",
    ),
    (
        "verify",
        str,
        "Run the files in these programs, too, by comma: compiled, gpu, arm64, "
        "arm64_a53, mediapipe, vela (docs/consumers.md).",
    ),
    ("out", "out/quickstart", "Folder of the results."),
    ("epochs", int, "Epochs of training; 0: none. Default: 8; 0 for an opened model."),
    (
        "max_drop",
        float,
        "Return layers of static INT8 to float, worst first, until the accuracy has "
        "dropped by at most this many percentage points; without labels, the agreement "
        "with float.",
    ),
    ("allow_unsafe", bool, "Open a model that runs code of its own, if you trust it."),
    ("overwrite", False, "Replace existing results."),
)
# Earlier name -> today's.
OLD = {"out_dir": "out", "quantize": "recipe"}
# Short form -> the field it sets.
_SHORT = {
    "benchmark": "benchmark.runners",
    "allow_unsafe": "model.allow_unsafe",
    "data": "data.spec",
    "preprocess": "convert.preprocess",
    "preprocessing": "model.preprocessing",
    "recipe": "quantization.recipes",
    "calibration": "quantization.calibration",
    "ranges": "quantization.ranges",
    "target": "quantization.target",
    "io": "quantization.io",
    "epochs": "training.epochs",
    "max_drop": "quantization.max_drop",
    "strategy": "training.strategy",
    "verify": "verify.consumers",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(values, *_FLAGS)


def apply_short_forms(
    values: flags.FlagValues, config: ml_collections.ConfigDict
) -> None:
    """Writes the short forms that were given into the config."""
    for flag, field in _SHORT.items():
        if values[flag].value is not None:
            config_lib.override(config, field, text=str(values[flag].value))
    for section, first in (("prune", "ratio"), ("factorize", "energy")):
        text = values[section].value
        if text is not None:
            method, _, options = text.partition(":")
            parsed = config_lib.parse_options(options, method, first=first)
            config_lib.merge(config, {section: {"method": method, **parsed}})
    if values["steps"].value is not None:
        config_lib.merge(config, {"steps": tuple(values["steps"].value.split())})
    if values.model is not None:
        set_model(config, values.model)


def set_model(config: ml_collections.ConfigDict, text: str) -> None:
    """Writes what `--model` says, a name and perhaps options, into the config."""
    # Late: it looks at files and modules with NumPy at hand.
    from tfslim import loading

    name, options = loading.split(text)
    # Options and size of the config's model mean nothing to another one.
    if name != config.model.name:
        config.model.input_shape = ()
        config.model.options = ml_collections.ConfigDict()
    config.model.name = name
    parsed = config_lib.parse_options(options, name)
    config_lib.merge(config, {"model": {"options": parsed}})


def _run(values: flags.FlagValues, config: ml_collections.ConfigDict | None) -> None:
    # TensorFlow's own default leaves oneDNN off on CPUs without AVX-512 VNNI, where it
    # trains several times faster, too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Late: --help and wrong flags must not wait for NumPy.
    from tfslim import quiet
    from tfslim.pipeline import choices

    assert config is not None  # noqa: S101 - run() is given a default config.
    # Nor what is wrong for TensorFlow.
    choices.check(None, config, out_dir=values.out, overwrite=values.overwrite)
    if str(config.model.name).endswith(".tflite"):
        _export_file(values, config)
        return
    with quiet.captured_stderr():  # It speaks of CUDA at its start.
        from tfslim import pipeline, report
        from tfslim.report import progress

        pipeline.start_tensorflow(config.training.strategy)
    with progress.steps():
        result = pipeline.export_model(
            config=config, out_dir=values.out, overwrite=values.overwrite
        )
    if not result:
        cli.say("Trained; the chief worker writes the files.")
        return
    report.to_terminal(result)
    cli.say(
        f"{values.out} holds the files; look at report.html. model.keras "
        f"opens with {result['model']['keras']}."
    )


def _export_file(values: flags.FlagValues, config: ml_collections.ConfigDict) -> None:
    """Goes on from a .tflite; TensorFlow is not needed."""
    from tfslim import pipeline, report
    from tfslim.report import progress

    with progress.steps() as on_step:
        result = pipeline.export_file(
            config.model.name,
            config,
            folder=Path(values.out),
            overwrite=values.overwrite,
            on_step=on_step,
        )
    report.to_terminal(result)
    cli.say(f"{values.out} holds the files, result.json and report.md.")


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.export",
    __doc__ or "",
    define_flags,
    _run,
    default_config="quickstart",
    short_forms=apply_short_forms,
    plain="model",
    old=OLD,
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
