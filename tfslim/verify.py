"""Runs a .tflite in the programs that will use it, and compares their answers.

  tfslim verify int8.tflite
  tfslim verify int8.tflite --in=gpu,arm64 --data=folder:photos
  tfslim verify int8.tflite --in=mediapipe --input=photo.jpg,other.jpg

Consumers: interpreter (LiteRT Interpreter), compiled (LiteRT 2, CPU), gpu (LiteRT 2,
GPU), arm64 and arm64_a53 (emulated phones' CPUs), mediapipe (Tasks' ImageClassifier)
and vela (compiler for Ethos-U). `tfslim consumers --setup=all` sets them up.

Exit codes: 0 all are right, 1 one of them refuses the file or gets it wrong, 2 wrong
usage.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from tfslim import cli, errors

if TYPE_CHECKING:
    import numpy as np

_TEXTS = (
    ("model", None, "The .tflite; may also stand alone."),
    ("data", None, "Samples: digits, folder:PATH, npz:PATH, …, as in tfslim export."),
    ("preprocessing", None, "How pixels become inputs, where the file does not say."),
    ("keras", None, "The Keras model that the file was made of, to compare with, too."),
    ("json", None, "Where to write the result as JSON."),
)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    for name, default, help_text in _TEXTS:
        flags.DEFINE_string(name, default, help_text, flag_values=values)
    flags.DEFINE_list(
        "in",
        [],
        "Consumers, by comma. Default: all that are on this machine.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "input",
        [],
        "Samples: pictures or a folder of them, or one .npy or .npz of preprocessed "
        "arrays. Without --input and --data: pictures that are made up.",
        flag_values=values,
    )
    flags.DEFINE_integer("num_samples", 32, "How many samples.", flag_values=values)


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim import consumers, files, report, tflite
    from tfslim.report import progress

    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: tfslim verify model.tflite."
        )
    if values.json:
        files.require_writable(values.json, "--json")
    names = values["in"].value or consumers.available()
    for name in names:
        consumers.CONSUMERS.get(name).require()
    content = tflite.open_file(values.model)
    inputs = _samples(values, content)
    keras = _keras_outputs(values.keras, inputs) if values.keras else None
    with progress.steps() as on_step:
        rows = consumers.verify(
            content, inputs, names=names, expected=keras, on_step=on_step
        )
    name = Path(values.model).name
    report.consumers_to_terminal({name: rows})
    if values.json:
        samples = len(next(iter(inputs.values())))
        result = {"file": name, "num_samples": samples, "consumers": rows}
        files.write_json(values.json, result)
    _require_right(name, rows)


def _require_right(name: str, rows: dict[str, dict[str, Any]]) -> None:
    bad = {
        consumer: f"{consumer} {_VERBS[row['status']]}: {row['reason'].rstrip('.')}"
        for consumer, row in rows.items()
        if row["status"] in _VERBS
    }
    if bad:
        advice = " The GPU wants float16." if "gpu" in bad else ""
        raise errors.VerificationError(f"'{name}': {'; '.join(bad.values())}.{advice}")


_VERBS = {"wrong": "gets it wrong", "refused": "refuses it"}


def _samples(values: flags.FlagValues, content: bytes) -> dict[str, np.ndarray]:
    from tfslim import apps, consumers, data, preprocessing, tflite
    from tfslim.apps import inputs as inputs_lib

    if values.num_samples < 1:
        raise errors.ConfigError(f"--num_samples is {values.num_samples}; at least 1.")
    if values.data and values.input:
        raise errors.ConfigError("Pass --data or --input, not both.")
    if not (values.data or values.input):
        return consumers.made_up(content, count=values.num_samples)
    about = apps.read_about(content)
    if values.preprocessing:
        shape = tflite.read(content).inputs[0].shape[1:]
        chosen = preprocessing.preset(values.preprocessing, shape)
        about = dataclasses.replace(about, preprocessing=chosen)
    if values.input:
        return inputs_lib.read_samples(content, values.input, about=about)
    examples = data.load(values.data).test
    count = min(values.num_samples, len(examples))
    return inputs_lib.samples_of(
        content, list(examples.inputs(range(count))), about=about
    )


def _keras_outputs(path: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    import numpy as np

    from tfslim import loading, quiet

    with quiet.captured_stderr():
        model = loading.load_model(path)
        arrays = list(inputs.values())
        outputs = model.predict(arrays[0] if len(arrays) == 1 else arrays, verbose=0)
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return [
        np.asarray(o) for o in (outputs if isinstance(outputs, list) else [outputs])
    ]


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    doc = __doc__ or ""
    return cli.run("tfslim.verify", doc, define_flags, _run, argv, plain="model")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
