"""Removes channels of a Keras model and writes the smaller one as a .keras.

  tfslim prune model.keras --ratio=0.5
  tfslim prune model.keras --max_macs=50e6 --criterion=taylor --data=folder:photos
  tfslim prune model.keras --ratio=0.3 --scope=global --data=digits --epochs=10

Channels are cut where all that they feed is known, and the result is proved against
the model with those channels masked. With --data that has labels it is trained on for
--epochs; without, it is cut alone. `tfslim export --prune` does the same on the way to
.tflite files.

Exit codes: 0 done, 1 the job failed, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from tfslim import cli, errors, export, files, settings
from tfslim import config as config_lib

# The fields of config.prune that are flags of this command.
_FIELDS = [f for f in dataclasses.fields(settings.Prune) if f.name != "method"]


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(
        values,
        ("model", str, "What `tfslim export` opens, a .tflite excepted."),
        ("out", str, "The file to write, or a folder; default: MODEL_pruned.keras."),
        ("data", str, "digits, tfds:NAME, folder:PATH, npz:PATH or synthetic."),
        ("allow_unsafe", False, "Open a model that runs code of its own, if trusted."),
        ("overwrite", False, "Replace an existing file."),
        *((field.name, str, _help(field)) for field in _FIELDS),
    )


def _help(field: dataclasses.Field[Any]) -> str:
    text = settings.limits(field).help
    default = "" if field.default in (None, ()) else f" [{field.default}]"
    return f"{text[0].upper()}{text[1:]}.{default}"


def _apply(values: flags.FlagValues, config: ml_collections.ConfigDict) -> None:
    """Writes the flags into the config."""
    config.steps = ("prune",)
    config.prune.method = "channels"
    config.training.epochs = 0
    if values.model:
        export.set_model(config, values.model)
    config.model.allow_unsafe = values.allow_unsafe
    config.data.spec = values.data
    for field in _FIELDS:
        if values[field.name].value is not None:
            name = f"prune.{field.name}"
            config_lib.override(config, name, text=values[field.name].value)


def _run(values: flags.FlagValues, config: ml_collections.ConfigDict | None) -> None:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    assert config is not None  # noqa: S101 - run() is given a default config.
    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: tfslim prune model.keras --ratio=0.5."
        )
    out = _claim(values)
    # Late: --help must not wait for NumPy, nor what is wrong for TensorFlow.
    from tfslim import quiet
    from tfslim.pipeline import choices

    choices.check_names(
        choices.resolve(None, config, has_data=config.data.spec is None)
    )
    with quiet.captured_stderr():
        from tfslim import pipeline, report
        from tfslim.pipeline import prune
        from tfslim.report import progress

        pipeline.start_tensorflow(config.training.strategy)

    with progress.steps() as on_step:
        done = prune.prune_file(config, out, on_step=on_step)
    for row in done["steps"]:
        facts = report.step_facts(row, done["metric"])[1:]
        cli.say("\n".join([*row["layers"], *facts]))
    for note in done["skipped"]:
        cli.say(note)
    cli.say(f"{out} is written; it opens with {done['keras']}.")


def _claim(values: flags.FlagValues) -> Path:
    name = Path(values.model.partition(":")[0])
    default = name.with_name(f"{name.stem}_pruned.keras")
    out = files.in_folder(values.out, default=default)
    if out.suffix != ".keras":
        raise errors.ConfigError(
            f"--out must end with .keras, or be a folder, got '{out}'."
        )
    if out.exists() and not values.overwrite:
        raise errors.ConfigError(
            f"{out} exists. Pass --overwrite to replace it, or choose another --out."
        )
    files.require_writable(out, "--out")
    return out


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.prune",
    __doc__ or "",
    define_flags,
    _run,
    default_config="quickstart",
    short_forms=_apply,
    plain="model",
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
