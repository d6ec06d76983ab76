"""What quantization costs in accuracy, by method, on models with real weights.

  TFSLIM_DATA=... python -m benchmarks.quantization
  TFSLIM_DATA=... python -m benchmarks.quantization --models=resnet8,digits:mobilenet_v2

Columns: accuracy of the float file, then the drop in points for each method, the
agreement with float and the SQNR of the logits, size and latency. "accurate" is auto
with equalization, rounding and full bias correction, what `python -m tfslim.quantize`
does; "wi4" has weights of 4 bits, rounded to nearest, "wi4_gptq" by GPTQ. Calibration
and test samples are disjoint. `digits:NAME` and `cifar10:NAME` train a model of the
zoo first. Rows that the result file holds already are kept; --fresh makes them anew.

"wounded" is the visual wake words with two channels a layer rescaled by 100 where a
ReLU lets them, its function unchanged; "hot" is ResNet-8 calibrated with
samples of which a tenth have 1% of their pixels 30 times as bright.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import networks, record
from tfslim import benchmark, quantize_tflite, tasks, tflite
from tfslim.benchmark import environment
from tfslim.evaluation import compare_files
from tfslim.quantization import THRESHOLDS, Options, quantize_accurately
from tfslim.quantization.ranges import calibration
from tfslim.quantization.ranges.statistics import Histogram
from tfslim.quantization.repair import equalization, scalable_pairs
from tfslim.quantization.rules.preprocess_model import prepare

DATA = Path(os.environ["TFSLIM_DATA"])
METHODS = ("minmax", "percentile", "mse", "kl", "moving_average", "kl_textbook")
# Nothing is repaired.
PLAIN = {"equalize": False, "rounding": "nearest", "bias_correction": "none"}
# AlexNet takes no smaller input.
SIDES = {"alexnet": 64}
# Epochs, and how many of the training and test examples.
BUDGETS = {"digits": (12, 1500, 500), "cifar10": (24, 10_000, 2500)}
OPTIONS = {"vgg16": {"classifier": "gap", "alpha": 0.5}}
ZOO = (
    *("alexnet", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "resnet18"),
    "vgg16",
)
SKIPPED = {
    "ad01": "its inputs are spectrograms of machines, which TFSLIM_DATA has not",
    "kws": "its inputs are spectrograms of words, which TFSLIM_DATA has not",
}


@dataclasses.dataclass
class Case:
    """A float file with its samples; `labels` None: agreement alone."""

    model: bytes
    calibration: list[np.ndarray]
    test: list[np.ndarray]
    labels: np.ndarray | None


def _photo(
    path: Path, side: int, scale: float, shift: float, mode: str = "RGB"
) -> np.ndarray:
    from PIL import Image

    image = Image.open(path).convert(mode).resize((side, side))
    pixels = np.asarray(image, np.float32).reshape(1, side, side, -1)
    return pixels * np.float32(scale) + np.float32(shift)


def _cifar10(model: bytes, mean: tuple = (0.0,), std: tuple = (1.0,)) -> Case:
    with np.load(DATA / "cifar10/cifar10_12k.npz") as arrays:
        x_train, x_test = arrays["x_train"][:300], arrays["x_test"]
        labels = arrays["y_test"].reshape(-1)

    def samples(images: np.ndarray) -> list[np.ndarray]:
        x = (images - np.array(mean)) / np.array(std)
        return list(x[:, None].astype(np.float32))

    return Case(model, samples(x_train), samples(x_test), labels)


def resnet8() -> Case:
    return _cifar10((DATA / "models/tflite/pretrainedResnet.tflite").read_bytes())


def cifar_resnet(depth: int) -> Case:
    """ResNet-20 and 56 of PyTorch, whose weights fit our Keras twin."""
    import tfslim

    weights = DATA / f"models/weights/resnet{depth}_cifar10_torch.npz"
    model = networks.cifar_resnet(depth, weights)
    mean, std = (
        tuple(255 * part for part in parts)
        for parts in (networks.CIFAR_MEAN, networks.CIFAR_STD)
    )
    return _cifar10(tfslim.convert_model(model).tflite, mean, std)


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
    """Is there a person? Tested on COCO photos, as its own test set is."""
    model = (DATA / "models/tflite/vww_96_float.tflite").read_bytes()
    samples = sorted((DATA / "imagenet/samples").glob("*.jpg"))[::2]
    test = sorted((DATA / "coco/images").glob("*/*.jpg"))
    return Case(
        model,
        [_photo(path, 96, 1 / 255, 0.0) for path in samples],
        [_photo(path, 96, 1 / 255, 0.0) for path in test],
        np.array([_shows_person(path) for path in test]),
    )


def _shows_person(image: Path) -> bool:
    """Visual wake words' rule: a person on more than 0.5% of the image."""
    boxes = DATA / "coco/labels" / image.parent.name / f"{image.stem}.txt"
    if not boxes.exists():
        return False
    rows = [line.split() for line in boxes.read_text().splitlines()]
    return any(row[0] == "0" and float(row[3]) * float(row[4]) > 0.005 for row in rows)


def stranger(name: str, side: int, mode: str) -> Case:
    """A model from the net whose classes nobody knows: agreement alone."""
    import tfslim

    model = tfslim.load_model(DATA / "models/keras" / name)
    photos = sorted((DATA / "imagenet/samples").glob("*.jpg"))
    x = [_photo(path, side, 1 / 127.5, -1.0, mode) for path in photos]
    return Case(tfslim.convert_model(model).tflite, x[::2], x[1::2], None)


def wounded() -> Case:
    case = visual_wake_words()
    source = prepare(case.model)
    graph = tflite.read(source).graphs[0]
    found, _ = scalable_pairs.pairs(graph)
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
    """Trains a model of the zoo on digits or on some of CIFAR-10."""
    import tfslim
    from tfslim import data, models, preprocessing, training

    spec = {"cifar10": f"npz:{DATA}/cifar10/cifar10_12k.npz"}.get(source, source)
    dataset = data.load(spec)
    epochs, num_train, num_test = BUDGETS[source]
    side = SIDES.get(name, 32)
    options = {"input_shape": (side, side, 3), "num_classes": 10}
    options |= OPTIONS.get(name, {})
    model = tfslim.build_model(name, **options)
    preset = models.model_spec(name, **options).preprocessing
    prepare_input = preprocessing.preset(preset, (side, side, 3))

    def arrays(part: data.Examples, most: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = np.random.default_rng(0).permutation(len(part))[:most]
        return prepare_input.apply(part.inputs(chosen)), part.targets[chosen]

    x_train, y_train = arrays(dataset.train, num_train)
    training.fit(
        model,
        (x_train, y_train),
        task="classification",
        epochs=epochs,
        verbose=False,
    )
    # At 32 pixels the last maps are 1x1: the moving averages are too noisy to run by.
    model = tfslim.recalibrate_batch_norm(model, np.split(x_train[:512], 4))
    x_test, y_test = arrays(dataset.test, num_test)
    return Case(
        tfslim.convert_model(model).tflite,
        [x[None] for x in x_train[-300:]],
        [x[None] for x in x_test],
        y_test,
    )


CASES: dict[str, Callable[[], Case]] = {
    "resnet8": resnet8,
    "resnet20": functools.partial(cifar_resnet, 20),
    "resnet56": functools.partial(cifar_resnet, 56),
    "mobilenet_v1_imagenet": mobilenet_v1,
    "visual_wake_words": visual_wake_words,
    "mini_xception": functools.partial(stranger, "mini_xception.hdf5", 48, "L"),
    "teachable_machine": functools.partial(stranger, "keras_model.h5", 224, "RGB"),
    "wounded": wounded,
    "hot": hot,
}


def run(name: str) -> dict:
    start = time.monotonic()
    source, _, zoo = name.partition(":")
    case = trained(source, zoo) if zoo else CASES[name]()
    # Logits: probabilities of 0 and 1 hide what happens to the rest.
    model = compare_files.without_softmax(prepare(case.model))
    truth = np.stack(compare_files.outputs(model, case.test)[0]).reshape(
        len(case.test), -1
    )

    def figures(file: bytes) -> dict:
        found = np.stack(compare_files.outputs(file, case.test)[0]).reshape(truth.shape)
        same = found.argmax(1) == truth.argmax(1)
        row = {
            "agreement": float(same.mean()),
            "sqnr_db": tasks.sqnr_db(truth, found),
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
    seen, _ = calibration.gather(model, case.calibration, statistic=Histogram)
    for method in METHODS:
        ranges = calibration.choose(model, seen, threshold=THRESHOLDS.get(method))
        files[method] = quantize_tflite(model, "int8", ranges=ranges).tflite
    files["wi4"] = quantize_tflite(model, "dynamic_wi4_afp32").tflite
    rounded = quantize_accurately(model, "dynamic_wi4_afp32", samples=case.calibration)
    files["wi4_gptq"] = rounded.quantized.tflite
    steps = {}
    for label, options in (
        ("auto", Options(calibration="auto", **PLAIN)),
        ("accurate", Options(calibration="auto", bias_correction="full")),
    ):
        done = quantize_accurately(model, samples=case.calibration, options=options)
        files[label] = done.quantized.tflite
        steps[label] = {"steps": done.steps, "taken": done.taken}
    rows = {label: figures(file) for label, file in files.items() if label != "float32"}
    timed = {label: files[label] for label in ("float32", "accurate")}
    timings = benchmark.run_host(timed, benchmark.Options(num_runs=100, rounds=10))
    result = {
        "model": name,
        "commit": record.commit(),
        # Of this row: those above are of the last one.
        "cpu_features": environment.host()["cpu_features"],
        "seconds": round(time.monotonic() - start, 1),
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
    names = [*CASES, *(f"digits:{name}" for name in ZOO), "cifar10:mobilenet_v2"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(names))
    parser.add_argument("--name", default="quantization")
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    path = record.RESULTS / f"{options.name}.json"
    old = [] if options.fresh or not path.exists() else json.loads(path.read_text())
    rows = {row["model"]: row for row in (old and old["rows"])}
    for name in options.models.split(","):
        # Rows of before there was rounding lack a column.
        if "wi4_gptq" not in rows.get(name, {}).get("methods", {}):
            rows[name] = run(name)
            record.save(options.name, list(rows.values()), skipped=SKIPPED)


if __name__ == "__main__":
    main()
