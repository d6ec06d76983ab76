"""Activation counts, iterative pruning and distillation on VGG16, side by side.

VGG16 with batch normalization, alpha 0.25 and average pooling, on scikit-learn's
digits at 32 x 32 x 3, cut until a share of its MACs and of its params is left (both),
divisor 1, then trained 4 epochs; test accuracy on 297 images that chose nothing.

* counts: channels by activation rate against Taylor and random ones;
* rounds: one cut and 6 epochs against 3 rounds of 2 epochs, by L1 norm;
* teacher: 12 epochs on 1200 images, or 96 on 150, with and without the original.

  python -m benchmarks.methods_digits
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from sklearn import datasets

import tfslim
from benchmarks import record
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import criteria
from tfslim.training import FitOptions

EPOCHS, RATE, BATCH = 4, 0.003, 64
SHARES = (0.38, 0.15, 0.08)
# Images -> epochs of learning from a teacher: the same number of steps.
TEACHER = {1200: 12, 150: 96}


class Digits:
    """The data of one seed and a model trained on it."""

    def __init__(self, seed: int):
        """Draws the split and trains."""
        x, y = datasets.load_digits(return_X_y=True)
        x = np.kron((x / 16).reshape(-1, 8, 8), np.ones((4, 4))).astype("float32")
        order = np.random.default_rng(seed).permutation(len(x))
        x, y = x[order][..., None].repeat(3, -1), y[order].astype("int64")
        self.train = x[:1200], y[:1200]
        self.validation = x[1200:1500], y[1200:1500]
        self.test = x[1500:], y[1500:]
        self.seed = seed
        tf_keras.utils.set_random_seed(seed)
        self.model = tfslim.build_model(
            "vgg16",
            input_shape=(32, 32, 3),
            num_classes=10,
            alpha=0.25,
            classifier="gap",
        )
        self.training(12)(self.model)
        whole = count.count(graph_keras.read(self.model))
        self.macs, self.params = whole.macs, whole.params

    def training(self, epochs: int, number: int | None = None) -> tfslim.Training:
        """Returns a training on the first `number` images."""
        x, y = self.train
        return tfslim.Training(
            train=(x[:number], y[:number]),
            validation=self.validation,
            options=FitOptions(
                epochs=epochs, batch_size=BATCH, learning_rate=RATE, seed=self.seed
            ),
        )

    def budget(self, share: float, scope: str = "uniform") -> tfslim.Budget:
        """Returns the budget that leaves at most a share of MACs and of params."""

        def largest_share(graph: Any) -> float:
            left = count.count(graph)
            return max(left.macs / self.macs, left.params / self.params)

        return tfslim.Budget(
            max_cost=share, cost=largest_share, scope=scope, divisor=1, min_channels=2
        )

    def row(self, part: str, name: str, share: float, model: Any) -> dict:
        """Returns and prints the result of one model."""
        left = count.count(graph_keras.read(model))
        test = tfslim.Training(train=None, validation=self.test)
        row = {
            "part": part,
            "name": name,
            "share": share,
            "seed": self.seed,
            "accuracy": round(test.metric(model) or 0.0, 4),
            "macs": round(left.macs / self.macs, 3),
            "params": round(left.params / self.params, 3),
        }
        print(json.dumps(row), flush=True)
        return row


def _counts(digits: Digits) -> list[dict]:
    rows = []
    batches = [
        tuple(part[start : start + 100] for part in digits.train)
        for start in range(0, 1200, 100)
    ]
    for share in SHARES:
        for scope in ("uniform", "global"):
            budget = digits.budget(share, scope)
            model, _ = tfslim.activation_pruning(
                digits.model,
                digits.train[0],
                fine_tune=digits.training(EPOCHS),
                budget=budget,
                cycles=1,
                is_trained=True,
            )
            rows.append(digits.row("counts", f"count, {scope}", share, model))
            others = {
                "random": {"criterion": criteria.resolve("random", seed=digits.seed)},
                "taylor": {
                    "criterion": "taylor",
                    "data": batches,
                    "loss": "sparse_categorical_crossentropy",
                },
            }
            for name, options in others.items():
                model, _ = tfslim.prune_iteratively(
                    digits.model,
                    digits.training(EPOCHS),
                    budget=budget,
                    steps=1,
                    **options,
                )
                rows.append(digits.row("counts", f"{name}, {scope}", share, model))
    return rows


def _rounds(digits: Digits) -> list[dict]:
    rows = []
    for share in SHARES[1:]:
        for steps, curve in ((1, "linear"), (3, "linear"), (3, "cubic")):
            model, _ = tfslim.prune_iteratively(
                digits.model,
                digits.training(6 // steps),
                budget=digits.budget(share),
                steps=steps,
                curve=curve,
            )
            name = f"{steps} x {6 // steps} epochs" + (f", {curve}" * (steps > 1))
            rows.append(digits.row("rounds", name, share, model))
    return rows


def _teacher(digits: Digits) -> list[dict]:
    rows = []
    for share in SHARES[1:]:
        for number, epochs in TEACHER.items():
            cut, _ = tfslim.prune_channels(digits.model, budget=digits.budget(share))
            training = digits.training(epochs, number)
            model, _ = tfslim.distill(
                cut,
                digits.model,
                data=training.train,
                validation=training.validation,
                options=training.options,
            )
            rows.append(digits.row("teacher", f"{number}, teacher", share, model))
            model = training(cut)
            rows.append(digits.row("teacher", f"{number}, alone", share, model))
    return rows


def _original(digits: Digits) -> list[dict]:
    return [digits.row("base", "original", 1.0, digits.model)]


PARTS: dict[str, Callable[[Digits], list[dict]]] = {
    "base": _original,
    "counts": _counts,
    "rounds": _rounds,
    "teacher": _teacher,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--progress", help="a file of finished parts, to go on from")
    options = parser.parse_args()
    progress = Path(options.progress) if options.progress else None
    rows = []
    if progress and progress.exists():
        rows = [json.loads(line) for line in progress.read_text().splitlines()]
    done = {(row["part"], row["seed"]) for row in rows}
    for seed in map(int, options.seeds.split(",")):
        left = [name for name in PARTS if (name, seed) not in done]
        digits = Digits(seed) if left else None
        for name in left:
            found = PARTS[name](digits)
            rows += found
            if progress:
                with progress.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
    record.save(
        "methods_digits",
        rows,
        epochs=EPOCHS,
        learning_rate=RATE,
        batch_size=BATCH,
        teacher_epochs={str(number): epochs for number, epochs in TEACHER.items()},
        training_images=1200,
        test_images=297,
    )


if __name__ == "__main__":
    main()
