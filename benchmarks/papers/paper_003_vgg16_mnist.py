"""VGG16 on MNIST with Prox-SG and other methods, to a twentieth of its weights.

After Xu, "Research on Model Compression Based on Convolutional Neural Network": VGG16
at 99% on MNIST with about 70% of the weights gone, by Prox-SG. Goal: at least 99.3%
with at least 95% gone. Beside it, from the same trained network to the same number of
weights and with the same fine-tuning: plain L1 norms, Taylor ranking, Tucker
decomposition, distillation from the original (cut by L1 norms), Bayesian compression,
random channels.

VGG16 with batch normalization and average pooling in place of the dense layers, which
are most of the weights and the easiest to remove; MNIST at 32x32, moved by up to two
pixels in training; 2,000 of the training images choose the best epoch, the 10,000 test
images are seen once. An epoch is a number of steps, not a pass.

  TFSLIM_DATA=... python -m benchmarks.papers.paper_003_vgg16_mnist --fast
  TFSLIM_DATA=... python -m benchmarks.papers.paper_003_vgg16_mnist

--fast: a quarter of the width, epochs of 20,000 images; --alpha alone: of the width
with all images, in a result of its own. Trained networks are kept in
--work_dir; a run that was killed goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.papers import runs

GOAL = {"accuracy": 0.993, "params_left": 0.05}
BATCH = 64
RATE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiment is.

    Attributes:
        alpha: width of VGG16.
        images: of one epoch.
        base_epochs: of the training from scratch.
        sparse_epochs: of the training under a penalty, for methods that have one.
        fine_tune_epochs: of the training after the cut.
    """

    alpha: float = 1.0
    images: int = 58_000
    base_epochs: int = 8
    sparse_epochs: int = 6
    fine_tune_epochs: int = 10


FAST = Scale(
    alpha=0.25, images=20_000, base_epochs=6, sparse_epochs=4, fine_tune_epochs=8
)


@dataclasses.dataclass(frozen=True)
class Case:
    """What a method gets."""

    base: Any
    data: dict[str, runs.Arrays]
    scale: Scale
    seed: int

    def training(self, epochs: int) -> Any:
        """Returns a training of so many epochs."""
        import tfslim

        return tfslim.Training(
            train=_stream(self.data["train"], self.seed),
            validation=self.data["validation"],
            options=tfslim.FitOptions(
                epochs=epochs,
                batch_size=BATCH,
                steps_per_epoch=max(1, self.scale.images // BATCH),
                learning_rate=RATE,
                seed=self.seed,
            ),
        )

    def budget(self, scope: str) -> Any:
        """Returns the number of weights that may be left."""
        import tfslim

        most = GOAL["params_left"] * runs.size(self.base)["params"]
        return tfslim.Budget(max_params=most, scope=scope, divisor=1)

    @property
    def lengths(self) -> dict[str, int]:
        """Returns the lengths of both trainings of a method that has two."""
        return {
            "sparse_epochs": self.scale.sparse_epochs,
            "fine_tune_epochs": self.scale.fine_tune_epochs,
        }

    def tuned(self, model: Any) -> Any:
        """Returns a cut model after its fine-tuning."""
        return self.training(self.scale.fine_tune_epochs)(model)


def _stream(data: runs.Arrays, seed: int) -> Any:
    """Yields shuffled batches for ever, each image moved by up to two pixels."""
    import tensorflow as tf

    def moved(x: Any, y: Any) -> Any:
        by = tf.random.uniform((2,), -2, 3, tf.int32, seed=seed)
        return tf.roll(x, by, (0, 1)), y

    dataset = tf.data.Dataset.from_tensor_slices(data)
    dataset = dataset.shuffle(len(data[1]), seed=seed).repeat()
    return dataset.map(moved).batch(BATCH, drop_remainder=True).prefetch(2)


def _cut(case: Case, criterion: Any, scope: str, **data: Any) -> Any:
    import tfslim

    smaller, _ = tfslim.prune_channels(
        case.base, criterion=criterion, budget=case.budget(scope), **data
    )
    return smaller


def random(case: Case) -> Any:
    from tfslim.pruning import criteria

    chance = criteria.resolve("random", seed=case.seed)
    return case.tuned(_cut(case, chance, "uniform"))


def l1(case: Case) -> Any:
    return case.tuned(_cut(case, "l1_norm", "uniform"))


def taylor(case: Case) -> Any:
    x, y = (part[:2000] for part in case.data["train"])
    batches = [(x[i : i + 100], y[i : i + 100]) for i in range(0, len(x), 100)]
    loss = "sparse_categorical_crossentropy"
    return case.tuned(_cut(case, "taylor", "global", data=batches, loss=loss))


def tucker(case: Case) -> Any:
    import tfslim

    most = GOAL["params_left"] * runs.size(case.base)["params"]
    low, high = 0.0, 1.0
    found, _ = tfslim.factorize_model(
        case.base, method="tucker", energy=1e-6, divisor=1
    )
    for _ in range(9):
        energy = (low + high) / 2
        model, _ = tfslim.factorize_model(
            case.base, method="tucker", energy=energy, divisor=1
        )
        if runs.size(model)["params"] <= most:
            low, found = energy, model
        else:
            high = energy
    return case.tuned(found)


def distillation(case: Case) -> Any:
    import tfslim

    student = _cut(case, "l1_norm", "uniform")
    training = case.training(case.scale.fine_tune_epochs)
    return tfslim.distill(student, case.base, training)[0]


def prox_sg(case: Case) -> Any:
    import tfslim

    return tfslim.prox_sg(
        case.base, case.training(1), budget=case.budget("uniform"), **case.lengths
    )[0]


def bayesian(case: Case, scope: str = "global") -> Any:
    import tfslim

    return tfslim.bayesian_compression(
        case.base, case.training(1), budget=case.budget(scope), **case.lengths
    )[0]


def bayesian_uniform(case: Case) -> Any:
    return bayesian(case, "uniform")


METHODS: dict[str, Callable[[Case], Any]] = {
    "Prox-SG": prox_sg,
    "Bayesian": bayesian,
    "Bayesian by layer": bayesian_uniform,
    "Taylor": taylor,
    "L1 norm": l1,
    "distillation": distillation,
    "Tucker": tucker,
    "random": random,
}


def base_network(case: Case, path: Path) -> Any:
    """Returns the trained network, from its file if there is one."""
    import tf_keras

    import tfslim

    if path.is_file():
        return tf_keras.models.load_model(path, compile=False)
    tf_keras.utils.set_random_seed(case.seed)
    model = tfslim.build_model(
        "vgg16",
        input_shape=(32, 32, 1),
        num_classes=10,
        alpha=case.scale.alpha,
        batch_norm=True,
        classifier="gap",
    )
    case.training(case.scale.base_epochs)(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def run(
    name: str, scale: Scale, *, seeds: list[int], work_dir: Path, methods: list[str]
) -> None:
    """Makes the rows of the result `name` that are missing."""
    conditions = {
        **dataclasses.asdict(scale),
        "batch_size": BATCH,
        "learning_rate": RATE,
    }
    rows = runs.Rows(f"papers/{name}", goal=GOAL, **conditions)
    data = runs.mnist()
    for seed in seeds:
        case = Case(None, data, scale, seed)
        of = "_".join(f"{value:g}" for value in dataclasses.astuple(scale))
        base = base_network(case, work_dir / f"paper_003_{of}_{seed}.keras")
        case = dataclasses.replace(case, base=base)
        whole = runs.size(base)

        def row(model: Any, whole: dict[str, int] = whole) -> dict[str, Any]:
            left = runs.size(model)
            return {
                "accuracy": runs.accuracy(model, data["test"]),
                **left,
                **{f"{key}_left": round(left[key] / whole[key], 4) for key in left},
            }

        rows.make(lambda row=row, base=base: row(base), method="original", seed=seed)
        for method in methods:
            make = METHODS[method]
            rows.make(
                lambda row=row, make=make, case=case: row(make(case)),
                method=method,
                seed=seed,
            )


def main(given: list[str] | None = None) -> None:
    parser = runs.arguments(__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--alpha", default=Scale.alpha, type=float)
    options = parser.parse_args(given)
    run(
        "paper_003" if options.fast else "paper_003_all_images",
        FAST if options.fast else Scale(alpha=options.alpha),
        seeds=options.seeds,
        work_dir=options.work_dir,
        methods=options.methods.split(","),
    )


if __name__ == "__main__":
    main()
