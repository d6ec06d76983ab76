"""Why is it slow, and what would help? Layer by layer, by measurement.

  tfslim analyze model.keras
  tfslim analyze int8.tflite --json=analysis.json
  tfslim analyze float32.tflite --against=int8.tflite --data=folder:photos
  tfslim analyze model.tflite --out=smaller.tflite

Times are of this machine, op by op, and kept for the next time (docs/analysis.md).
--against says which layer broke a quantized file. --node_data colours the graph in
Model Explorer. --out writes the file with its kernels in the sparse format, which is
smaller where many are zero, and which alone makes XNNPACK use its sparse kernels on a
phone.

Exit codes: 0 done, 1 the job failed, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from tfslim import cli, errors

if TYPE_CHECKING:
    from tfslim.analysis.analyze_file import Wanted
    from tfslim.benchmark.android import AndroidOptions

# More zeros are worth a section of their own.
_SPARSE = 0.05


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(
        values,
        ("model", str, "A .tflite, or a Keras model: .keras, .h5, a zoo name."),
        ("out", str, "Where to write the file with its kernels in the sparse format."),
        ("num_runs", 50, "Runs against the dense file; 0: nothing is timed at all."),
        ("num_threads", 1, "Threads of the timed runs."),
        ("android", False, "Measure on a phone, over adb, not on this machine."),
        ("serial", "", "Which phone; none: the only one."),
        ("benchmark_binary", "", "benchmark_model for the phone; none: a download."),
        ("device_dir", "/data/local/tmp", "Folder on the phone for a private one."),
        ("against", str, "A .tflite made of this one: what it loses, layer by layer."),
        ("data", str, "Samples: digits, folder:PATH, npz:PATH, …."),
        ("preprocessing", str, "raw, unit, symmetric, torch or caffe."),
        ("samples", 8, "How many of them."),
        ("json", str, "Where to write all figures as JSON."),
        ("html", str, "Where to write a page with plots and tables."),
        ("node_data", str, "Where to write the times for Model Explorer, as JSON."),
        ("all", False, "Show every op and all advice."),
        ("overwrite", False, "Replace an existing file."),
    )


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim import analysis, files, report
    from tfslim.report import progress

    _check(values)
    with progress.steps() as on_step:
        data, wanted = _opened(values)
        wanted = dataclasses.replace(wanted, samples=_samples(values, data))
        found = analysis.analyze_file(data, wanted, on_step=on_step)
    cli.say(report.analysis_to_text(found, show_all=values.all))
    _zeros(values, data)
    if values.json:
        files.write_json(values.json, found)
    if values.html:
        from tfslim.report import html

        files.write_text(values.html, html.analysis_to_html(found))
    if values.node_data:
        files.write_json(values.node_data, report.analysis_to_node_data(found))


def _check(values: flags.FlagValues) -> None:
    from tfslim import files

    if not values.model:
        raise errors.ConfigError(
            "No model is given. Write: tfslim analyze model.tflite."
        )
    for name, least in (("num_runs", 0), ("num_threads", 1), ("samples", 1)):
        if values[name].value < least:
            raise errors.ConfigError(
                f"--{name} must be at least {least}, got {values[name].value}."
            )
    for name in ("out", "json", "html", "node_data"):
        path = values[name].value
        if path and name == "out" and Path(path).exists() and not values.overwrite:
            raise errors.ConfigError(f"{path} exists. Pass --overwrite to replace it.")
        if path:
            files.require_writable(Path(path), f"--{name}")


def _opened(values: flags.FlagValues) -> tuple[bytes, Wanted]:
    """Reads the `.tflite`, or makes it of the Keras model."""
    from tfslim import tflite
    from tfslim.analysis.analyze_file import Wanted

    against = None
    if values.against:
        content = tflite.open_file(values.against)
        against = Path(values.against).name, content
    facts: dict[str, Any] = {
        "name": Path(values.model).name,
        "is_timed": values.num_runs > 0,
        "num_threads": values.num_threads,
        "against": against,
        "phones": _phones(values),
    }
    if values.model.endswith(".tflite"):
        return tflite.open_file(values.model), Wanted(**facts)
    from tfslim import convert, loading, quantization
    from tfslim.graph import keras as graph_keras
    from tfslim.graph import keras_probe

    model = loading.load_model(values.model)
    data = convert.convert_model(model).tflite
    try:
        graph = graph_keras.read(model)
        found = quantization.map_layers(data, *keras_probe.probe(model))
        data = quantization.put_layers(data, found)
    except errors.GraphError as error:
        note = f"Layers are known by the names in the file only: {error}"
        return data, Wanted(**facts, notes=(note,))
    return data, Wanted(**facts, graph=graph)


def _phones(values: flags.FlagValues) -> AndroidOptions | None:
    from tfslim.benchmark import android

    if not values.android:
        return None
    names = ("serial", "benchmark_binary", "device_dir")
    return android.AndroidOptions(**{name: values[name].value for name in names})


def _samples(values: flags.FlagValues, data: bytes) -> list[Any] | None:
    if not values.data:
        return None
    from tfslim.data.file_inputs import FeedOptions
    from tfslim.pipeline import file_data

    feed = FeedOptions(
        data=values.data,
        preprocessing=values.preprocessing,
        input_shape="",
        seed=0,
        model=f"'{values.model}'",
    )
    loaded = file_data.load(data, feed, num_samples=values.samples, num_test=0)
    return list(itertools.islice(loaded.calibration or [], values.samples))


def _zeros(values: flags.FlagValues, data: bytes) -> None:
    """Says what zeros are worth, where there are many, and stores them sparsely."""
    from tfslim import analysis, benchmark, files, tflite

    kernels = analysis.read_sparsity(data)
    total = sum(kernel.nonzero.size for kernel in kernels)
    zeros = sum(int((~kernel.nonzero).sum()) for kernel in kernels)
    if kernels and (values.out or zeros > _SPARSE * total):
        options = benchmark.Options(
            num_runs=max(values.num_runs, 1), num_threads=values.num_threads
        )
        advice = analysis.advise_sparsity(
            data, measure_latency=values.num_runs > 0, options=options
        )
        cli.say(f"\n{advice}")
    if values.out:
        files.write_bytes(values.out, tflite.store_sparse(data))
        cli.say(f"{values.out} is written.")


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.analyze",
    __doc__ or "",
    define_flags,
    _run,
    plain="model",
    old={"store_sparse": "out"},
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
