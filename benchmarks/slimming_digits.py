"""Methods that train and cut, against chance: ResNet-18 and VGG16 on digits.

scikit-learn's digits at 32x32x3, 40% of them for testing. One base network per model
and seed, shared by all methods; each has to get below a share of its MACs and of its
params (a smaller one for VGG16: random channels lose next to nothing there before) and
ends with the same fine-tuning, at a fifth of the base network's learning rate: at the
whole rate it is a training from scratch, which makes all channels equal on data as easy
as this. The best epoch is chosen on the validation split; the test split is looked at
once, at the end. Shares, epochs and rates were chosen on seeds 10 and 11. Goal: each
method loses at most one point and beats random channels.

  python -m benchmarks.slimming_digits [--models=resnet18] [--seeds=0] [--methods=...]

Every row is written as it is done; rows that are there already are not made again, so
a run that was killed goes on. Delete the result to start anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from typing import Any

import numpy as np

from benchmarks import record

NAME = "digits_training_methods"
SHAPE = (32, 32, 3)
LEFT = {"resnet18": 0.25, "vgg16": 0.08}  # Of MACs and of params.
BASE_EPOCHS, SPARSE_EPOCHS, FINE_TUNE_EPOCHS = 8, 6, 4
FINE_TUNE_RATE = 2e-4  # Of Adam; the base network is trained with 1e-3.
CYCLES = 3  # Of activation pruning, each with its fine-tuning.
MODELS = {
    "resnet18": {},
    "vgg16": {"classifier": "gap", "batch_norm": True},
}
TRAINING = {"task": "classification"}


@dataclasses.dataclass(frozen=True)
class Case:
    """What a method gets."""

    base: Any
    left: float
    data: dict[str, tuple[np.ndarray, np.ndarray]]
    seed: int

    @property
    def training(self) -> dict[str, Any]:
        """Options of every training after that of the base network."""
        return {**TRAINING, "seed": self.seed, "learning_rate": FINE_TUNE_RATE}

    def budget(self, scope: str) -> Any:
        """What every method has to get below."""
        import tfslim
        from tfslim.graph import count, keras

        whole = count.count(keras.read(self.base))

        def share_left(graph: Any) -> float:
            left = count.count(graph)
            return max(left.macs / whole.macs, left.params / whole.params)

        return tfslim.Budget(
            max_cost=self.left, cost=share_left, scope=scope, divisor=8
        )


def slimming(case: Case) -> Any:
    from tfslim.slimming.slim_network import slim_network

    return slim_network(
        case.base,
        case.data["train"],
        case.data["validation"],
        budget=case.budget("global"),
        sparse_epochs=SPARSE_EPOCHS,
        fine_tune_epochs=FINE_TUNE_EPOCHS,
        **case.training,
    )[0]


def prox_sg(case: Case) -> Any:
    from tfslim.proximal.prox_sg import prox_sg

    return prox_sg(
        case.base,
        case.data["train"],
        case.data["validation"],
        budget=case.budget("uniform"),
        sparse_epochs=SPARSE_EPOCHS,
        fine_tune_epochs=FINE_TUNE_EPOCHS,
        **case.training,
    )[0]


def activation(case: Case) -> Any:
    import tfslim
    from tfslim.training import FitOptions

    training = {k: v for k, v in case.training.items() if k != "task"}
    return tfslim.activation_pruning(
        case.base,
        case.data["train"],
        fine_tune=tfslim.Training(
            train=case.data["train"],
            validation=case.data["validation"],
            task=case.training["task"],
            options=FitOptions(epochs=FINE_TUNE_EPOCHS, **training),
        ),
        budget=case.budget("global"),
        cycles=CYCLES,
        reconstruct=True,
        is_trained=True,
    )[0]


def random(case: Case) -> Any:
    import tfslim
    from tfslim.pruning import criteria

    smaller, _ = tfslim.prune_channels(
        case.base,
        criterion=criteria.resolve("random", seed=case.seed),
        budget=case.budget("uniform"),
    )
    tfslim.fit(
        smaller,
        case.data["train"],
        validation=case.data["validation"],
        epochs=FINE_TUNE_EPOCHS,
        **case.training,
    )
    return smaller


# A method: case -> smaller model.
METHODS = {
    "random": random,
    "slimming": slimming,
    "prox_sg": prox_sg,
    "activation": activation,
}


def load(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    import tfslim
    from tfslim import data, preprocessing

    dataset = tfslim.load_data("digits", seed=seed, test_fraction=0.4)
    steps = preprocessing.preset("torch", SHAPE)
    splits = {}
    for name in ("train", "validation", "test"):
        parts = list(data.batches(getattr(dataset, name), steps, batch_size=64))
        x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
        splits[name] = (x, y)
    return splits


def base_network(model: str, data: dict[str, Any], seed: int) -> Any:
    import tf_keras

    import tfslim

    tf_keras.utils.set_random_seed(seed)
    base = tfslim.build_model(model, input_shape=SHAPE, num_classes=10, **MODELS[model])
    tfslim.fit(
        base,
        data["train"],
        validation=data["validation"],
        epochs=BASE_EPOCHS,
        seed=seed,
        **TRAINING,
    )
    return base


def measure(model: Any, data: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    from tfslim.graph import count, keras

    counts = count.count(keras.read(model))
    outputs = model.predict(data[0], batch_size=64, verbose=0)
    accuracy = float((outputs.argmax(1) == data[1]).mean())
    return {"macs": counts.macs, "params": counts.params, "accuracy": accuracy}


def saved_rows() -> list[dict[str, Any]]:
    path = record.RESULTS / f"{NAME}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    rows = saved_rows()

    def add(row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        rows.append(row)
        record.save(
            NAME,
            rows,
            input_shape=SHAPE,
            left=LEFT,
            epochs=[BASE_EPOCHS, SPARSE_EPOCHS, FINE_TUNE_EPOCHS],
            fine_tune_rate=FINE_TUNE_RATE,
            cycles=CYCLES,
        )

    for model in options.models.split(","):
        for seed in map(int, options.seeds.split(",")):
            done = {
                row["method"]
                for row in rows
                if (row["model"], row["seed"]) == (model, seed)
            }
            missing = [m for m in options.methods.split(",") if m not in done]
            if not missing:
                continue
            data = load(seed)
            start = time.perf_counter()
            base = base_network(model, data, seed)
            methods = {"base": lambda case: case.base} if "base" not in done else {}
            for name in missing:
                methods[name] = METHODS[name]
            for name, method in methods.items():
                smaller = method(Case(base, LEFT[model], data, seed))
                seconds = time.perf_counter() - start
                found = measure(smaller, data["test"])
                row = {"model": model, "seed": seed, "method": name, **found}
                add({**row, "seconds": round(seconds, 1)})
                start = time.perf_counter()


if __name__ == "__main__":
    main()
