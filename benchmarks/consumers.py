"""Zoo x recipes x consumers: who runs which file, whole or in part, right or wrong.

  python -m benchmarks.consumers
  python -m benchmarks.consumers --models=mobilenet_v2 --in=gpu,arm64
  python -m benchmarks.consumers --table

The zoo's networks are trained on digits, since one with random weights makes any
rounding large. With TFSLIM_DATA there are networks with weights of others, too.
Consumers that are not on this machine are left out, and named in the conditions:
`tfslim consumers --setup=all` sets them up.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record

RECIPES = ("float32", "float16", "dynamic_int8", "int8")
SAMPLES = 64
_EPOCHS = 6
_CALIBRATION = 64


@dataclasses.dataclass(frozen=True)
class Network:
    """A Keras model, its 8-bit pictures and how they become its input."""

    model: Any
    pixels: np.ndarray
    prepare: Any
    labels: list[str]


def _zoo(name: str, **options: Any) -> Network:
    """Trains a network of the zoo on digits, drawn in color at 32x32 pixels."""
    import tf_keras

    import tfslim
    from tfslim import data, models, preprocessing

    shape = (32, 32, 3)
    tf_keras.utils.set_random_seed(0)
    model = tfslim.build_model(name, input_shape=shape, num_classes=10, **options)
    spec = models.model_spec(name, input_shape=shape, **options)
    prepare = preprocessing.preset(spec.preprocessing, shape)
    digits = data.load("digits", seed=0)
    x, x_test = (
        # As an 8-bit picture: some programs take nothing else.
        np.rint(preprocessing.preset("raw", shape).apply(part.inputs(range(len(part)))))
        for part in (digits.train, digits.test)
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    inputs = prepare.apply(x)
    model.fit(inputs, digits.train.targets, epochs=_EPOCHS, verbose=2)
    model = tfslim.recalibrate_batch_norm(model, [inputs[:512]])
    pixels = np.concatenate([x[:_CALIBRATION], x_test[:SAMPLES]]).astype(np.uint8)
    return Network(model, pixels, prepare, [str(digit) for digit in range(10)])


def _cifar(build: Callable[[Path], Any], preset: str, folder: Path) -> Network:
    from tfslim import preprocessing

    stored = np.load(folder / "cifar10" / "cifar10_12k.npz", allow_pickle=False)
    pixels = stored["x_test"][: _CALIBRATION + SAMPLES]
    prepare = preprocessing.preset(preset, (32, 32, 3))
    return Network(build(folder), pixels, prepare, stored["class_names"].tolist())


def _resnet8(folder: Path) -> Any:
    import tfslim

    return tfslim.load_model(folder / "models" / "keras" / "pretrainedResnet.h5")


def _resnet20(folder: Path) -> Any:
    from benchmarks import networks

    weights = folder / "models" / "weights" / "resnet20_cifar10_torch.npz"
    return networks.cifar_resnet(20, weights)


def _networks() -> dict[str, Callable[[], Network]]:
    found: dict[str, Callable[[], Network]] = {
        "mobilenet_v1": functools.partial(_zoo, "mobilenet_v1", alpha=0.25),
        "mobilenet_v2": functools.partial(_zoo, "mobilenet_v2", alpha=0.35),
        "mobilenet_v3_small": functools.partial(_zoo, "mobilenet_v3_small"),
        "resnet18": functools.partial(_zoo, "resnet18", alpha=0.25),
    }
    if "TFSLIM_DATA" in os.environ:
        folder = Path(os.environ["TFSLIM_DATA"])
        found["resnet8 (CIFAR-10)"] = functools.partial(_cifar, _resnet8, "raw", folder)
        found["resnet20 (CIFAR-10)"] = functools.partial(
            _cifar, _resnet20, "torch", folder
        )
    return found


def _files(name: str, network: Network) -> dict[str, bytes]:
    import tfslim

    entry = {
        "name": name,
        "task": "classification",
        "labels": network.labels,
        "preprocessing": network.prepare.to_json(),
    }
    floating = tfslim.convert_model(network.model, metadata=entry).tflite
    rows = [row[None] for row in network.prepare.apply(network.pixels[:_CALIBRATION])]
    found = {"float32": floating}
    for recipe in RECIPES[1:]:
        samples = rows if recipe == "int8" else None
        done = tfslim.quantize_tflite(floating, recipe, samples=samples)
        found[recipe] = done.tflite
    return found


def _rows(name: str, network: Network, names: list[str]) -> list[dict[str, Any]]:
    from tfslim import consumers, tflite

    x = network.prepare.apply(network.pixels[-SAMPLES:])  # Not calibrated with.
    keras = [np.asarray(network.model.predict(x, verbose=0))]
    rows = []
    for recipe, content in _files(name, network).items():
        (entry,) = tflite.read(content).input_names
        print(f"{name}, {recipe}", flush=True)
        done = consumers.verify(content, {entry: x}, names=names, expected=keras)
        for consumer, row in done.items():
            print(f"  {consumer}: {row['status']} {row['reason']}", flush=True)
            known = {"model": name, "recipe": recipe, "size_bytes": len(content)}
            rows.append({**known, "consumer": consumer, **row})
    return rows


def _table() -> str:
    """Returns the results as Markdown: one line a file, one column a consumer."""
    rows = json.loads((record.RESULTS / "consumers.json").read_text())["rows"]
    names = list(dict.fromkeys(row["consumer"] for row in rows))
    lines = [
        "| network | recipe | " + " | ".join(names) + " |",
        "|---" * (2 + len(names)) + "|",
    ]
    for model, recipe in dict.fromkeys((r["model"], r["recipe"]) for r in rows):
        cells = {
            row["consumer"]: _cell(row)
            for row in rows
            if (row["model"], row["recipe"]) == (model, recipe)
        }
        shown = " | ".join(cells.get(name, "") for name in names)
        lines.append(f"| {model} | {recipe} | {shown} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if row["status"] == "compiled":
        counts = [int(text.split(" x")[1].split()[0]) for text in row["fell_back"]]
        return f"{sum(counts)} ops on the CPU"
    if row["status"] == "wrong":
        share = row["against"]["interpreter"]["agreement"]
        return f"**wrong**: {1 - share:.0%} get another class"
    if row["status"] == "refused":
        return f"refused: {row['reason']}"
    error = row["against"]["interpreter"]["max_abs_error"]
    return "right" if not error else f"right, {error:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    known = _networks()
    parser.add_argument("--models", default=",".join(known))
    parser.add_argument("--in", dest="names", default="")
    parser.add_argument("--table", action="store_true", help="Show the results.")
    options = parser.parse_args()
    if options.table:
        print(_table())
        return
    from tfslim import consumers

    names = options.names.split(",") if options.names else consumers.available()
    missing = {
        name: consumers.CONSUMERS.get(name).missing()
        for name in consumers.CONSUMERS.names()
        if name not in names
    }
    rows: list[dict[str, Any]] = []
    for name in options.models.split(","):
        rows += _rows(name, known[name](), names)
        record.save("consumers", rows, samples=SAMPLES, left_out=missing)


if __name__ == "__main__":
    main()
