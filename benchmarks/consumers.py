"""Zoo x recipes x consumers: who runs which file, whole or in part, right or wrong.

  python -m benchmarks.consumers
  python -m benchmarks.consumers --models=mobilenet_v2 --in=gpu,arm64
  python -m benchmarks.consumers --table

The zoo's networks are trained on digits, since one with random weights makes any
rounding large. With TFSLIM_DATA there are networks with weights of others, too.
Rows of other networks than those of --models stay, with the commit that they are of.
"inside" networks take pixels: the normalization lies in the file.
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
    is_inside: bool = False


def _zoo(
    name: str,
    side: int = 32,
    learning_rate: float = 1e-3,
    is_inside: bool = False,
    **options: Any,
) -> Network:
    """Trains a network of the zoo on digits, drawn in color."""
    import tf_keras

    import tfslim
    from tfslim import data, models, preprocessing

    shape = (side, side, 3)
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
    adam = tf_keras.optimizers.Adam(learning_rate)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    inputs = prepare.apply(x)
    model.fit(inputs, digits.train.targets, epochs=_EPOCHS, verbose=2)
    model = tfslim.recalibrate_batch_norm(model, [inputs[:512]])
    pixels = np.concatenate([x[:_CALIBRATION], x_test[:SAMPLES]]).astype(np.uint8)
    labels = [str(digit) for digit in range(10)]
    return Network(model, pixels, prepare, labels, is_inside)


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
        "mobilenet_v3_large": functools.partial(_zoo, "mobilenet_v3_large", alpha=0.75),
        "resnet18": functools.partial(_zoo, "resnet18", alpha=0.25),
        "resnet18, inside": functools.partial(
            _zoo, "resnet18", alpha=0.25, is_inside=True
        ),
        "alexnet, inside": functools.partial(
            _zoo, "alexnet", 64, 1e-4, alpha=0.25, is_inside=True
        ),
        "vgg16, inside": functools.partial(
            _zoo, "vgg16", 32, 1e-4, alpha=0.25, classifier="gap", is_inside=True
        ),
        "mlp": functools.partial(_zoo, "mlp", 32, 1e-4, hidden=(128,)),
    }
    if "TFSLIM_DATA" in os.environ:
        folder = Path(os.environ["TFSLIM_DATA"])
        found["resnet8 (CIFAR-10)"] = functools.partial(_cifar, _resnet8, "raw", folder)
        found["resnet20 (CIFAR-10)"] = functools.partial(
            _cifar, _resnet20, "torch", folder
        )
    return found


def _inputs(network: Network, pixels: np.ndarray) -> np.ndarray:
    """Returns what the files take."""
    if network.is_inside:
        return pixels.astype(np.float32)
    return np.asarray(network.prepare.apply(pixels))


def _files(name: str, network: Network) -> dict[str, bytes]:
    import tfslim
    from tfslim import apps

    entry = {
        "name": name,
        "task": "classification",
        "labels": network.labels,
        "preprocessing": network.prepare.to_json(),
    }
    floating = tfslim.convert_model(network.model, metadata=entry).tflite
    rows = [row[None] for row in _inputs(network, network.pixels[:_CALIBRATION])]
    if network.is_inside:
        floating = apps.normalize_inside(floating)
    found = {"float32": floating}
    for recipe in RECIPES[1:]:
        samples = rows if recipe == "int8" else None
        done = tfslim.quantize_tflite(floating, recipe, samples=samples)
        found[recipe] = done.tflite
    return found


def _rows(name: str, network: Network, names: list[str]) -> list[dict[str, Any]]:
    from tfslim import consumers, tflite

    pixels = network.pixels[-SAMPLES:]  # Not calibrated with.
    x = _inputs(network, pixels)
    expected = network.model.predict(network.prepare.apply(pixels), verbose=0)
    keras = [np.asarray(expected)]
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


def _kept(models: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the earlier run's rows of other networks, and what it was."""
    path = record.RESULTS / "consumers.json"
    if not path.exists():
        return [], {}
    earlier = json.loads(path.read_text())
    rows = [row for row in earlier["rows"] if row["model"] not in models]
    kept: dict[str, Any] = dict(earlier["conditions"].get("earlier", {}))
    kept |= dict.fromkeys(
        (row["model"] for row in rows if row["model"] not in kept), earlier["commit"]
    )
    return rows, {name: kept[name] for name in kept if name not in models}


def _cell(row: dict[str, Any]) -> str:
    if row["status"] == "compiled":
        counts = [int(text.split(" x")[1].split()[0]) for text in row["fell_back"]]
        return f"{sum(counts)} ops on the CPU"
    if row["status"] == "wrong":
        share = row["against"]["interpreter"]["agreement"]
        is_class = share is not None and share < 1
        reason = f"{1 - share:.0%} get another class" if is_class else row["reason"]
        return f"**wrong**: {reason}"
    if row["status"] == "refused":
        return f"refused: {row['reason']}"
    error = row["against"]["interpreter"]["max_abs_error"]
    return "right" if not error else f"right, {error:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    known = _networks()
    parser.add_argument("--models", default=";".join(known))
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
    models = options.models.split(";")
    rows, earlier = _kept(models)
    for name in models:
        rows += _rows(name, known[name](), names)
        record.save(
            "consumers", rows, samples=SAMPLES, left_out=missing, earlier=earlier
        )


if __name__ == "__main__":
    main()
