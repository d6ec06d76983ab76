"""Builds or loads a Keras model, trains it, and exports verified, timed .tflite files.

With no flags it runs configs/quickstart.py: a ResNet-18 on scikit-learn's digits.
Into --out_dir go model.keras, one .tflite a variant, the resolved config,
result.json and report.md; manifest.json comes last and makes them one whole result. A
variant that cannot be made is left out with its reason.

  python -m tfslim.export --model=mobilenet_v2:alpha=0.35 --data=digits --epochs=5
  python -m tfslim.export --model=my_model.h5 --data=folder:photos
  python -m tfslim.export --config=my_config.py --config.training.epochs=3

Exit codes: 0 done, 1 the job failed (also where a variant that --quantize names cannot
be made, or --max_drop cannot be met: all else is written), 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import ml_collections
from absl import flags

from tfslim import cli
from tfslim import config as config_lib

_TEXTS = (
    (
        "model",
        None,
        "A model of the zoo with its options, mobilenet_v2:alpha=0.35,dropout_rate=0.; "
        "a .keras, .h5 or SavedModel of either Keras; my_module:my_function; or "
        "keras.applications.MobileNetV2:weights=None.",
    ),
    ("data", None, "digits, tfds:NAME, folder:PATH, npz:PATH or synthetic."),
    ("quantize", None, "Recipes by comma: float32, float16, dynamic_int8, int8."),
    (
        "calibration",
        None,
        "How INT8 ranges are chosen: minmax, kl, mse, percentile, auto, …",
    ),
    (
        "ranges",
        None,
        "The ranges.json of an earlier run, to use instead of calibrating.",
    ),
    (
        "prune",
        None,
        "Remove channels: channels:0.5, or channels:criterion=taylor,ratio=0.4; "
        "options are the fields of config.prune.",
    ),
    (
        "factorize",
        None,
        "Replace kernels by low-rank ones: tucker:energy=0.9, tucker+svd:target=0.5; "
        "options are the fields of config.factorize.",
    ),
    (
        "steps",
        None,
        "What makes the model smaller, in this order, by spaces: 'width:0.5 "
        "slim:0.6,passes=2 quantize'. Steps: cluster, distil, factorize, prune, "
        "quantize, slim, sparsify, width; options are the fields of their sections.",
    ),
    (
        "strategy",
        None,
        "How training is spread: none, mirrored (all GPUs of this machine) or "
        "multiworker (the machines that TF_CONFIG names; docs/training.md).",
    ),
    (
        "benchmark",
        None,
        "Where files are timed, by comma: host, android; empty: nowhere.",
    ),
    (
        "verify",
        None,
        "Run the files in these programs, too, by comma: compiled, gpu, arm64, "
        "arm64_a53, mediapipe, vela (docs/consumers.md).",
    ),
    ("out_dir", "out/quickstart", "Folder of the results."),
)
_SWITCHES = (
    (
        "allow_unsafe",
        None,
        "Open a model file that runs code of its own; only if you trust it.",
    ),
    ("overwrite", False, "Replace existing results."),
)
# Short form -> the field it sets.
_SHORT = {
    "benchmark": "benchmark.runners",
    "allow_unsafe": "model.allow_unsafe",
    "data": "data.spec",
    "quantize": "quantization.recipes",
    "calibration": "quantization.calibration",
    "ranges": "quantization.ranges",
    "epochs": "training.epochs",
    "max_drop": "quantization.max_drop",
    "strategy": "training.strategy",
    "verify": "verify.consumers",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    for name, default, help_text in _TEXTS:
        flags.DEFINE_string(name, default, help_text, flag_values=values)
    flags.DEFINE_integer(
        "epochs",
        None,
        "Epochs of training; 0: none. Default: 8, 0 for a model that is opened.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_drop",
        None,
        "Return layers of static INT8 to float, worst first, until the accuracy has "
        "dropped by at most this many percentage points; without labels, the agreement "
        "with float.",
        flag_values=values,
    )
    for name, is_on, help_text in _SWITCHES:
        flags.DEFINE_bool(name, is_on, help_text, flag_values=values)


def apply_short_forms(
    values: flags.FlagValues, config: ml_collections.ConfigDict
) -> None:
    """Writes the short forms that were given into the config."""
    for flag, field in _SHORT.items():
        if values[flag].value is not None:
            config_lib.override(config, field, str(values[flag].value))
    for section, first in (("prune", "ratio"), ("factorize", "energy")):
        text = values[section].value
        if text is not None:
            method, _, options = text.partition(":")
            parsed = config_lib.parse_options(options, method, first=first)
            config_lib.merge(config, {section: {"method": method, **parsed}})
    if values["steps"].value is not None:
        config_lib.merge(config, {"steps": tuple(values["steps"].value.split())})
    if values.model is not None:
        # Late: it looks at files and modules with NumPy at hand.
        from tfslim import loading

        name, options = loading.split(values.model)
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
    choices.check(None, config, values.out_dir, overwrite=values.overwrite)
    with quiet.captured_stderr():  # It speaks of CUDA at its start.
        from tfslim import pipeline, report
        from tfslim.report import progress

        pipeline.start_tensorflow(config.training.strategy)
    with progress.steps() as on_step:
        result = pipeline.export_model(
            config=config,
            out_dir=values.out_dir,
            overwrite=values.overwrite,
            on_step=on_step,
        )
    if not result:
        cli.say("Trained; the chief worker writes the files.")
        return
    report.to_terminal(result)
    cli.say(
        f"{values.out_dir} holds the files, result.json and report.md; model.keras "
        f"opens with {result['model']['keras']}."
    )


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    return cli.run(
        "tfslim.export",
        __doc__ or "",
        define_flags,
        _run,
        argv,
        default_config="quickstart",
        short_forms=apply_short_forms,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
