"""What INT8 costs in accuracy, by calibration method, on models with real weights.

  TFSLIM_DATA=... python -m benchmarks.quantization
  TFSLIM_DATA=... python -m benchmarks.quantization --models=resnet8,digits:mobilenet_v2

Columns: accuracy of the float file, then the drop in points for each method, the
agreement with float and the SQNR of the logits, size and latency. "accurate" is auto
with equalization and full bias correction, what `python -m tfslim.quantize` does.
Calibration and test samples are disjoint. `digits:NAME` and `cifar10:NAME` train a
model of the zoo first.

"wounded" is the visual wake words with two channels a layer rescaled by 100 where a
ReLU lets them, its function unchanged; "hot" is ResNet-8 calibrated with
samples of which a tenth have 1% of their pixels 30 times as bright.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import record
from tfslim import benchmark, quantize_tflite, tflite
from tfslim.quantization import (
    Options,
    calibrate,
    equalization,
    judge,
    pairs,
    quantize_accurately,
)
from tfslim.quantization.prepare import prepare

DATA = Path(os.environ["TFSLIM_DATA"])
METHODS = ("minmax", "percentile", "mse", "kl", "moving_average", "kl_textbook")


@dataclasses.dataclass
class Case:
    """A float file with its samples; `labels` None: agreement alone."""

    model: bytes
    calibration: list[np.ndarray]
    test: list[np.ndarray]
    labels: np.ndarray | None


def _photo(path: Path, side: int, scale: float, shift: float) -> np.ndarray:
    from PIL import Image

    image = Image.open(path).convert("RGB").resize((side, side))
    return np.asarray(image, np.float32)[None] * np.float32(scale) + np.float32(shift)


def resnet8() -> Case:
    with np.load(DATA / "cifar10/cifar10_12k.npz") as arrays:
        x_train, x_test = arrays["x_train"][:300], arrays["x_test"]
        labels = arrays["y_test"].reshape(-1)
    return Case(
        (DATA / "models/tflite/pretrainedResnet.tflite").read_bytes(),
        [x[None].astype(np.float32) for x in x_train],
        [x[None].astype(np.float32) for x in x_test],
        labels,
    )


def _imagenet(model: bytes, side: int, scale: float, shift: float) -> Case:
    samples = sorted((DATA / "imagenet/samples").glob("*.jpg"))[::2]
    test = sorted((DATA / "imagenet/val").glob("*.jpg"))
    return Case(
        model,
        [_photo(path, side, scale, shift) for path in samples],
        [_photo(path, side, scale, shift) for path in test],
        np.array([int(path.name[:4]) for path in test]),
    )


def mobilenet_v1() -> Case:
    import tf_keras

    import tfslim

    model = tf_keras.applications.MobileNet(alpha=0.75, weights=None)
    name = "models/weights/mobilenet_v1_0.75_224_imagenet.get_weights.npz"
    with np.load(DATA / name) as arrays:
        model.set_weights([arrays[f"arr_{i}"] for i in range(len(arrays.files))])
    return _imagenet(tfslim.convert_model(model).tflite, 224, 1 / 127.5, -1.0)


def visual_wake_words() -> Case:
    model = (DATA / "models/tflite/vww_96_float.tflite").read_bytes()
    return dataclasses.replace(_imagenet(model, 96, 1 / 255, 0.0), labels=None)


def wounded() -> Case:
    case = visual_wake_words()
    source = prepare(case.model)
    graph = tflite.read(source).graphs[0]
    found, _ = pairs.pairs(graph)
    constants = equalization.read_constants(found, graph)
    random = np.random.default_rng(0)
    for pair in found:
        factor = np.ones(pair.channels)
        factor[random.permutation(pair.channels)[:2]] = 0.01
        pair.scale(constants, factor)
    model = equalization.write_constants(source, constants)
    return dataclasses.replace(case, model=model)


def hot() -> Case:
    case = resnet8()
    random = np.random.default_rng(0)
    for x in case.calibration[::10]:
        x[0][random.random(x.shape[1:3]) < 0.01] *= 30
    return case


def trained(source: str, name: str) -> Case:
    """Trains a model of the zoo on digits or CIFAR-10, at 32 pixels."""
    import tfslim
    from tfslim import data, preprocessing
    from tfslim.data import tf_data
    from tfslim.tasks import TASKS

    spec = {"cifar10": f"npz:{DATA}/cifar10/cifar10_12k.npz"}.get(source, source)
    dataset = data.load(spec)
    prepare_input = preprocessing.preset("symmetric", (32, 32, 3))
    model = tfslim.build_model(name, input_shape=(32, 32, 3), num_classes=10)
    task = TASKS.get("classification")
    batches = {
        key: tf_data.to_tf_data(
            part, prepare_input, task, batch_size=64, seed=0, **more
        )
        for key, part, more in (
            ("train", dataset.train, {"shuffle": True}),
            ("validation", dataset.validation, {}),
        )
    }
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(batches["train"], epochs=8, verbose=2)
    images = prepare_input.apply(dataset.test.inputs(np.arange(len(dataset.test))))
    return Case(
        tfslim.convert_model(model).tflite,
        list(data.calibration_samples(dataset.train, prepare_input, 300)),
        [image[None] for image in images],
        dataset.test.targets,
    )


CASES: dict[str, Callable[[], Case]] = {
    "resnet8": resnet8,
    "mobilenet_v1_imagenet": mobilenet_v1,
    "visual_wake_words": visual_wake_words,
    "wounded": wounded,
    "hot": hot,
}


def run(name: str) -> dict:
    source, _, zoo = name.partition(":")
    case = trained(source, zoo) if zoo else CASES[name]()
    # Logits: probabilities of 0 and 1 hide what happens to the rest.
    model = judge.without_softmax(prepare(case.model))
    truth = judge.outputs(model, case.test)[0].reshape(len(case.test), -1)

    def figures(file: bytes) -> dict:
        found = judge.outputs(file, case.test)[0].reshape(truth.shape)
        same = found.argmax(1) == truth.argmax(1)
        row = {
            "agreement": float(same.mean()),
            "sqnr_db": judge.sqnr_db(truth, found),
            "size_bytes": len(file),
        }
        if case.labels is not None:
            right = (found.argmax(1) == case.labels).astype(float)
            right -= truth.argmax(1) == case.labels
            row["drop_points"] = -100.0 * float(right.mean())
            # One standard error of the paired difference.
            row["noise_points"] = 100.0 * float(right.std() / np.sqrt(len(right)))
        return row

    files = {"float32": model}
    for method in METHODS:
        ranges = calibrate(model, case.calibration, method)
        files[method] = quantize_tflite(model, "int8", ranges=ranges).tflite
    steps = {}
    for label, options in (
        ("auto", Options(equalize=False, bias_correction="none")),
        ("accurate", Options()),
    ):
        done = quantize_accurately(model, samples=case.calibration, options=options)
        files[label] = done.quantized.tflite
        steps[label] = {"steps": done.steps, "taken": done.taken}
    rows = {label: figures(file) for label, file in files.items() if label != "float32"}
    timed = {label: files[label] for label in ("float32", "accurate")}
    timings = benchmark.run_host(timed, benchmark.Options(num_runs=100, rounds=10))
    result = {
        "model": name,
        "float_accuracy": None
        if case.labels is None
        else float((truth.argmax(1) == case.labels).mean()),
        "num_test": len(case.test),
        "methods": rows,
        "chosen": steps,
        "float_bytes": len(model),
        "p50_us": dict(zip(timed, (t.latency.p50 for t in timings), strict=True)),
    }
    print(json.dumps(result, indent=1), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(CASES))
    parser.add_argument("--name", default="quantization")
    options = parser.parse_args()
    rows = [run(name) for name in options.models.split(",")]
    record.save(options.name, rows, models=options.models)


if __name__ == "__main__":
    main()
