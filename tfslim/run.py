"""Runs a .tflite on pictures and says what it sees, and how long it takes.

  tfslim run int8.tflite --input=photo.jpg
  tfslim run int8.tflite --input=photos --top=3

Pixels become the input, and scores become names, by the file's own metadata: tfslim's,
or the standard TFLITE_METADATA.

Exit codes: 0 done, 1 the job failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from tfslim import cli, errors

if TYPE_CHECKING:
    import numpy as np

    from tfslim import apps

_RUNS, _ROUNDS = 30, 3


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    text, number = flags.DEFINE_string, flags.DEFINE_integer
    text("model", None, "The .tflite; may also stand alone.", flag_values=values)
    flags.DEFINE_list(
        "input",
        [],
        "Pictures or a folder of them, or one .npy or .npz of preprocessed arrays.",
        flag_values=values,
    )
    text(
        "preprocessing",
        None,
        "How pixels become the input, where the file does not say: symmetric, unit, "
        "torch, caffe or raw.",
        flag_values=values,
    )
    text("json", None, "Where to write the result as JSON.", flag_values=values)
    number("top", 5, "How many classes to show.", flag_values=values)
    flags.DEFINE_bool(
        "android", False, "Time it on the phone that is attached.", flag_values=values
    )
    number("num_threads", 1, "Threads of the CPU kernels.", flag_values=values)


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    import dataclasses

    from tfslim import apps, files, preprocessing, tflite
    from tfslim.apps import inputs as inputs_lib

    if not values.model or not values.input:
        raise errors.ConfigError(
            "A model and an input are needed. Write: tfslim run model.tflite "
            "--input=photo.jpg."
        )
    if values.json:
        files.require_writable(values.json, "--json")
    content = tflite.open_file(values.model)
    about = apps.read_about(content)
    if values.preprocessing:
        shape = tflite.read(content).inputs[0].shape[1:]
        chosen = preprocessing.preset(values.preprocessing, shape)
        about = dataclasses.replace(about, preprocessing=chosen)
    inputs = inputs_lib.read_samples(content, values.input, about=about)
    outputs = _answers(content, inputs, num_threads=values.num_threads)
    timing = _timing(values, content)
    rows = [
        _described(index, outputs, about=about, top=values.top)
        for index in range(len(next(iter(outputs.values()))))
    ]
    for line in _lines(rows, timing, about=about):
        cli.say(line)
    if values.json:
        files.write_json(values.json, {"samples": rows, **timing})


def _answers(
    content: bytes, inputs: dict[str, np.ndarray], *, num_threads: int
) -> dict[str, np.ndarray]:
    from tfslim import evaluation, tflite

    predict = evaluation.Predictor(content, num_threads=num_threads)
    return dict(zip(tflite.read(content).output_names, predict(inputs), strict=True))


def _timing(values: flags.FlagValues, content: bytes) -> dict[str, Any]:
    """Times the file here, or on a phone."""
    from tfslim import benchmark

    options = benchmark.Options(
        num_runs=_RUNS, rounds=_ROUNDS, num_threads=values.num_threads
    )
    if values.android:
        from tfslim.benchmark.android import AndroidOptions, run_android

        name = values.model
        (done, *_) = run_android({name: content}, [options], android=AndroidOptions())
    else:
        done = benchmark.run_host({values.model: content}, options)
    row = done[0].to_json()
    return {"latency_us": row["latency"], "environment": row["environment"]}


def _described(
    index: int, outputs: dict[str, np.ndarray], *, about: apps.About, top: int
) -> dict[str, Any]:
    """Returns the best classes of a sample, or the shape and range of other outputs."""
    import numpy as np

    first = next(iter(outputs.values()))
    is_row = first.ndim == 2 and first.shape[1] > 1
    is_scores = about.task == "classification" or len(about.labels) == first.shape[-1]
    if is_row and is_scores:
        best = np.argsort(-first[index], kind="stable")[: max(top, 1)]
        classes = [
            {
                "label": about.label(int(number)),
                "index": int(number),
                "score": float(first[index, number]),
            }
            for number in best
        ]
        return {"classes": classes}
    ranges = {
        name: {
            "shape": list(array.shape[1:]),
            "min": float(array[index].min()),
            "max": float(array[index].max()),
        }
        for name, array in outputs.items()
    }
    return {"outputs": ranges}


def _lines(
    rows: list[dict[str, Any]], timing: dict[str, Any], *, about: apps.About
) -> Iterator[str]:
    for number, row in enumerate(rows):
        if len(rows) > 1:
            yield f"sample {number}"
        for entry in row.get("classes", []):
            yield f"  {entry['score']:8.4f}  {entry['label']}"
        for name, entry in row.get("outputs", {}).items():
            shape, low, high = entry["shape"], entry["min"], entry["max"]
            yield f"  {name} {shape}: {low:.4g} to {high:.4g}"
    latency = timing["latency_us"]
    typical = latency["p50"] or latency["mean"]
    tail = f", p90 {latency['p90']:.0f} us" if latency["p90"] else ""
    yield f"{typical:.0f} us a run on {timing['environment']['device']}{tail}"
    yield f"metadata: {about.source or 'none'}"


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    doc = __doc__ or ""
    return cli.run("tfslim.run", doc, define_flags, _run, argv, plain="model")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
