"""INT8 against float over seeds: agreement, size and the change in accuracy.

  python -m benchmarks.agreement --data=digits
  python -m benchmarks.agreement --data=npz:$TFSLIM_DATA/cifar10/cifar10_12k.npz \
      --epochs=12 --augment=flip,shift

Each seed trains the quickstart's ResNet-18 anew (another split, other weights). The
interval is that of the paired difference of correct answers, 95%, bootstrapped over
the test images of all seeds. Goals: agreement at least 0.99 on every seed, INT8 file
at most 0.30 of the float one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import record


def paired_interval(
    float_right: np.ndarray, int8_right: np.ndarray, *, rounds: int = 10_000
) -> tuple[float, float]:
    """95% bootstrap interval of the accuracy difference, INT8 - float."""
    difference = int8_right.astype(np.float64) - float_right
    random = np.random.default_rng(0)
    # Resampling n of three outcomes is one multinomial draw.
    shares = [(difference == value).mean() for value in (-1, 0, 1)]
    draws = random.multinomial(len(difference), shares, size=rounds)
    means = (draws[:, 2] - draws[:, 0]) / len(difference)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def run_seed(seed: int, options: argparse.Namespace, folder: Path) -> dict:
    import tfslim
    from tfslim import config as config_lib
    from tfslim import data, evaluation, preprocessing
    from tfslim.report import progress
    from tfslim.tflite import metadata

    config = config_lib.load("quickstart")
    config.seed = seed
    config.data.spec = options.data
    config.quantization.recipes = ("float32", "int8")
    config_lib.override(config, "training.epochs", text=str(options.epochs))
    config_lib.override(config, "training.augment", text=options.augment)
    out_dir = folder / str(seed)
    with progress.steps():
        result = tfslim.export_model(config=config, out_dir=out_dir)
    rows = {row["name"]: row for row in result["variants"]}
    about = metadata.get_json((out_dir / "int8.tflite").read_bytes())
    prepare = preprocessing.Preprocessing.from_json(about["preprocessing"])
    test = data.load(options.data, seed=seed).test
    right = {}
    for name in rows:
        predict = evaluation.Predictor((out_dir / f"{name}.tflite").read_bytes())
        answers = [predict(x)[0].argmax(1) == y for x, y in data.batches(test, prepare)]
        right[name] = np.concatenate(answers)
    return {
        "seed": seed,
        "test": len(test),
        "float_accuracy": rows["float32"]["metric"],
        "int8_accuracy": rows["int8"]["metric"],
        "agreement": rows["int8"]["parity"]["agreement"],
        "sqnr_db": rows["int8"]["parity"]["sqnr_db"],
        "size_ratio": rows["int8"]["size_bytes"] / rows["float32"]["size_bytes"],
        "right": {name: values.tolist() for name, values in right.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--augment", default="()")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    rows = [run_seed(int(s), options, folder) for s in options.seeds.split(",")]
    right = {
        name: np.concatenate([np.array(row["right"][name]) for row in rows])
        for name in ("float32", "int8")
    }
    low, high = paired_interval(right["float32"], right["int8"])
    for row in rows:
        del row["right"]
    summary = {
        "difference": float(right["int8"].mean() - right["float32"].mean()),
        "interval_95": [low, high],
        "least_agreement": min(row["agreement"] for row in rows),
    }
    print(json.dumps([*rows, summary], indent=1))
    name = options.data.partition(":")[0]
    name = Path(options.data).stem if name in ("npz", "folder") else name
    record.save(
        f"agreement_{name}",
        [*rows, summary],
        model="resnet18",
        epochs=options.epochs,
        augment=options.augment,
    )


if __name__ == "__main__":
    main()
