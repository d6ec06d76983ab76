"""AlexNet in INT8 with KL thresholds: accuracy, time, and ranges that are used again.

After Li, "The Optimization Strategy of Deep Learning Algorithm Based on Image
Recognition and Object Detection", section 3.1: AlexNet on a digit recognition, TensorRT
on a GPU: 99.68% -> 99.70%, 1.8 ms -> 0.54 ms (3.3 times). Goals: within 0.1 point, at
least 3.3 times faster.

AlexNet is trained on MNIST from scratch, quantized with ranges by KL divergence and by
extremes, and once more from the saved KL ranges, without samples. The times of the
224-pixel network, as in the paper, are of random weights: time does not depend on them.

  TFSLIM_DATA=... python -m benchmarks.papers.paper_001_alexnet_int8 --fast --seeds=0
  TFSLIM_DATA=... python -m benchmarks.papers.paper_001_alexnet_int8

--fast: 128 pixels, 3 epochs of 3,000 images, tested on the first 2,000 test images.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import runs

BATCH = 32
RATE = 3e-4
CALIBRATION = 200  # Images.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiment is.

    Attributes:
        pixels: side of the images that are trained on.
        images: of the training.
        epochs: passes over them.
        test_images: that the accuracies are of.
    """

    pixels: int = 224
    images: int = 58_000
    epochs: int = 4
    test_images: int = 10_000


FAST = Scale(pixels=128, images=3000, epochs=3, test_images=2000)


def _resized(x: np.ndarray, pixels: int) -> np.ndarray:
    import tensorflow as tf

    x = tf.image.resize(x, (pixels, pixels)).numpy()
    return x.repeat(3, axis=-1)


def _stream(data: runs.Arrays, pixels: int, seed: int) -> Any:
    """Yields shuffled batches for ever, resized as they come."""
    import tensorflow as tf

    def larger(x: Any, y: Any) -> Any:
        return tf.repeat(tf.image.resize(x, (pixels, pixels)), 3, axis=-1), y

    dataset = tf.data.Dataset.from_tensor_slices(data)
    dataset = dataset.shuffle(len(data[1]), seed=seed).repeat()
    return dataset.batch(BATCH, drop_remainder=True).map(larger).prefetch(2)


def _network(pixels: int, seed: int) -> Any:
    import tf_keras

    import tfslim

    tf_keras.utils.set_random_seed(seed)
    shape = (pixels, pixels, 3)
    return tfslim.build_model("alexnet", input_shape=shape, num_classes=10)


def _trained(scale: Scale, data: dict[str, runs.Arrays], seed: int, path: Path) -> Any:
    """Returns the trained network, from its file if there is one."""
    import tf_keras

    import tfslim

    if path.is_file():
        return tf_keras.models.load_model(path, compile=False)
    model = _network(scale.pixels, seed)
    train = tuple(part[: scale.images] for part in data["train"])
    x, y = (part[:500] for part in data["validation"])
    tfslim.fit(
        model,
        _stream(train, scale.pixels, seed),
        validation=(_resized(x, scale.pixels), y),
        task="classification",
        epochs=scale.epochs,
        steps_per_epoch=scale.images // BATCH,
        batch_size=BATCH,
        learning_rate=RATE,
        seed=seed,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def accuracies(model: Any, scale: Scale, data: dict[str, runs.Arrays]) -> dict:
    """Quantizes a network, twice by KL, and tests the files."""
    import tfslim
    from tfslim import quantization

    content = tfslim.convert_model(model).tflite
    samples = _resized(data["train"][0][:CALIBRATION], scale.pixels)
    started = time.perf_counter()
    kl = tfslim.quantize_tflite(content, "int8", samples=samples, calibration="kl")
    with_samples = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranges.json"
        quantization.write_ranges(path, kl.calibration, model=content)
        started = time.perf_counter()
        ranges = quantization.read_ranges(path)
        again = tfslim.quantize_tflite(content, "int8", ranges=ranges)
        with_ranges = time.perf_counter() - started
    files = {
        "float": content,
        "kl": kl.tflite,
        "minmax": tfslim.quantize_tflite(content, "int8", samples=samples).tflite,
    }
    x, y = (part[: scale.test_images] for part in data["test"])
    test = (_resized(x, scale.pixels), y)
    return {
        **runs.size(model),
        **{
            f"accuracy_{name}": runs.file_accuracy(file, test)
            for name, file in files.items()
        },
        **{f"{name}_bytes": len(file) for name, file in files.items()},
        "same_file_from_ranges": again.tflite == kl.tflite,
        "seconds_with_samples": round(with_samples, 1),
        "seconds_with_ranges": round(with_ranges, 1),
    }


def latency(pixels: int) -> dict:
    """Times AlexNet in float and with the recipes of INT8."""
    import tfslim

    content = tfslim.convert_model(_network(pixels, 0)).tflite
    samples = np.random.default_rng(0).uniform(size=(8, pixels, pixels, 3))
    samples = samples.astype(np.float32)
    files = {"float": content}
    for recipe in ("int8", "dynamic_int8"):
        quantized = tfslim.quantize_tflite(content, recipe, samples=samples)
        files[recipe] = quantized.tflite
    spent = runs.times(files)
    return {
        **{f"{name}_us": us for name, us in spent.items()},
        **{
            f"{name}_times_faster": round(spent["float"] / us, 2)
            for name, us in spent.items()
            if name != "float"
        },
    }


def run(scale: Scale, seeds: list[int], work_dir: Path) -> None:
    """Makes the rows that are missing."""
    rows = runs.Rows(
        "papers/paper_001_alexnet",
        goal={"points_lost": 0.1, "times_faster": 3.3},
        data="mnist",
        batch_size=BATCH,
        learning_rate=RATE,
        calibration_images=CALIBRATION,
        **dataclasses.asdict(scale),
    )
    for pixels in sorted({scale.pixels, 224}):
        rows.make(lambda pixels=pixels: latency(pixels), pixels=pixels)
    data = runs.mnist()
    for seed in seeds:
        path = work_dir / f"paper_001_{scale.pixels}_{scale.images}_{seed}.keras"
        rows.make(
            lambda path=path, seed=seed: accuracies(
                _trained(scale, data, seed, path), scale, data
            ),
            seed=seed,
        )


def main(given: list[str] | None = None) -> None:
    options = runs.arguments(__doc__).parse_args(given)
    run(FAST if options.fast else Scale(), options.seeds, options.work_dir)


if __name__ == "__main__":
    main()
