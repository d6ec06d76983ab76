"""ResNet-18 on CIFAR-10, slimmed by the scales of batch normalization, then INT8.

After Zhong, "Research on optimization technology based on mobile terminals
convolutional neural networks": ResNet-18 with a 3x3 stem, trained with an L1 penalty on
its scales, slimmed at 0.8 and fine-tuned: 10.35 times fewer MACs, 9.46 times fewer
weights, 3.41 times faster on a CPU. Goals: both of these within 1 point of accuracy, at
least 7 times faster, INT8 on top.

Trained on the 12,000 CIFAR-10 images of the subset (1,000 of them choose the best
epoch), flipped and shifted; tested on its 2,500 test images. Scales are compared across
all layers (global, as in the paper), or in each layer by itself (uniform).

  TFSLIM_DATA=... python -m benchmarks.papers.paper_000_resnet18 --fast --seeds=0
  TFSLIM_DATA=... python -m benchmarks.papers.paper_000_resnet18

--fast: a quarter of the width, and widths in multiples of 4, not 8.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.papers import runs

GOAL = {"macs_ratio": 10.35, "params_ratio": 9.46, "points": 1.0, "times_faster": 7.0}
BATCH = 64
RATE = 3e-3
CALIBRATION = 200  # Images.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiment is.

    Attributes:
        alpha: width of ResNet-18.
        base_epochs: of the training from scratch.
        sparse_epochs: of the training under the penalty.
        fine_tune_epochs: of the training after the cut.
        divisor: of the widths after the cut.
    """

    alpha: float = 1.0
    base_epochs: int = 30
    sparse_epochs: int = 15
    fine_tune_epochs: int = 30
    divisor: int = 8


FAST = Scale(alpha=0.25, base_epochs=8, sparse_epochs=4, divisor=4)


def cifar() -> dict[str, runs.Arrays]:
    """Returns the subset in [-1, 1]."""
    path = runs.data_folder() / "cifar10" / "cifar10_12k.npz"
    with np.load(path, allow_pickle=False) as data:
        x, y = data["x_train"], data["y_train"].ravel().astype(np.int64)
        test = data["x_test"], data["y_test"].ravel().astype(np.int64)

    def normalized(x: np.ndarray) -> np.ndarray:
        return (x / 127.5 - 1.0).astype(np.float32)

    return {
        "train": (normalized(x[:-1000]), y[:-1000]),
        "validation": (normalized(x[-1000:]), y[-1000:]),
        "test": (normalized(test[0]), test[1]),
    }


def _stream(data: runs.Arrays, seed: int) -> Any:
    """Yields shuffled batches for ever, flipped, and shifted by up to four pixels."""
    import tensorflow as tf

    def varied(x: Any, y: Any) -> Any:
        x = tf.image.random_flip_left_right(x, seed=seed)
        x = tf.pad(x, ((4, 4), (4, 4), (0, 0)))
        return tf.image.random_crop(x, (32, 32, 3), seed=seed), y

    dataset = tf.data.Dataset.from_tensor_slices(data)
    dataset = dataset.shuffle(len(data[1]), seed=seed).repeat()
    return dataset.map(varied).batch(BATCH, drop_remainder=True).prefetch(2)


def _training(data: dict[str, runs.Arrays], epochs: int, seed: int) -> Any:
    import tfslim

    return tfslim.Training(
        train=_stream(data["train"], seed),
        validation=data["validation"],
        options=tfslim.FitOptions(
            epochs=epochs,
            batch_size=BATCH,
            steps_per_epoch=len(data["train"][1]) // BATCH,
            learning_rate=RATE,
            seed=seed,
        ),
    )


def _base(scale: Scale, data: dict[str, runs.Arrays], seed: int, path: Path) -> Any:
    """Returns the trained network, from its file if there is one."""
    import tf_keras

    import tfslim

    if path.is_file():
        return tf_keras.models.load_model(path, compile=False)
    tf_keras.utils.set_random_seed(seed)
    model = tfslim.build_model(
        "resnet18",
        input_shape=(32, 32, 3),
        num_classes=10,
        alpha=scale.alpha,
        stem="cifar",
    )
    _training(data, scale.base_epochs, seed)(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def _slimmed(
    base: Any, scale: Scale, data: dict[str, runs.Arrays], *, scope: str, seed: int
) -> Any:
    import tfslim
    from tfslim.graph import count

    whole = runs.size(base)

    def largest_share(graph: Any) -> float:
        left = count.count(graph)
        return max(
            left.macs / whole["macs"] * GOAL["macs_ratio"],
            left.params / whole["params"] * GOAL["params_ratio"],
        )

    smaller, _ = tfslim.slim_network(
        base,
        _training(data, 1, seed),
        budget=tfslim.Budget(
            max_cost=1.0, cost=largest_share, scope=scope, divisor=scale.divisor
        ),
        sparse_epochs=scale.sparse_epochs,
        fine_tune_epochs=scale.fine_tune_epochs,
    )
    return smaller


def compared(base: Any, smaller: Any, data: dict[str, runs.Arrays]) -> dict:
    """Compares the files of both networks, in float and in INT8."""
    import tfslim

    samples = data["train"][0][:CALIBRATION]
    files = {}
    for name, model in (("whole", base), ("slim", smaller)):
        content = tfslim.convert_model(model).tflite
        files[f"{name}_float"] = content
        quantized = tfslim.quantize_tflite(content, "int8", samples=samples)
        files[f"{name}_int8"] = quantized.tflite
    spent = runs.times(files, rounds=10)
    whole, left = runs.size(base), runs.size(smaller)
    return {
        **{f"{key}_ratio": round(whole[key] / left[key], 2) for key in whole},
        **{
            f"accuracy_{name}": runs.file_accuracy(content, data["test"])
            for name, content in files.items()
        },
        **{f"{name}_us": us for name, us in spent.items()},
        **{f"{name}_bytes": len(content) for name, content in files.items()},
        "times_faster": round(spent["whole_float"] / spent["slim_float"], 2),
        "times_faster_int8": round(spent["whole_float"] / spent["slim_int8"], 2),
    }


def run(scale: Scale, seeds: list[int], work_dir: Path) -> None:
    """Makes the rows that are missing."""
    rows = runs.Rows(
        "papers/paper_000_resnet18",
        goal=GOAL,
        data="cifar10_12k",
        batch_size=BATCH,
        learning_rate=RATE,
        **dataclasses.asdict(scale),
    )
    data = cifar()
    for seed in seeds:
        name = "_".join(f"{value:g}" for value in dataclasses.astuple(scale))
        path = work_dir / f"paper_000_{name}_{seed}.keras"
        for scope in ("global", "uniform"):

            def make(path: Path = path, scope: str = scope, seed: int = seed) -> dict:
                base = _base(scale, data, seed, path)
                smaller = _slimmed(base, scale, data, scope=scope, seed=seed)
                return compared(base, smaller, data)

            rows.make(make, scope=scope, seed=seed)


def main(given: list[str] | None = None) -> None:
    options = runs.arguments(__doc__).parse_args(given)
    run(FAST if options.fast else Scale(), options.seeds, options.work_dir)


if __name__ == "__main__":
    main()
