"""How few ReLU units does y = i1 + i2 end with, from 1000?

The toy problem of Çallı, "Optimizing Neural Networks for Mobile Devices", Radboud
University, 2017, section 2.2.2. One unit is the optimum for inputs in [0, 1]; without
leaning on a large bias, inputs of both signs take two, relu(z) and relu(-z).

`count` is the source's way: what never fires is removed, with its optimizer (momentum,
rate 0.01, momentum 0.3, batches of 1000). `auto` is
`activation_pruning(threshold="auto", reconstruct=True)` with Adam.

  python -m benchmarks.papers.paper_002_toy          # ten seeds
  python -m benchmarks.papers.paper_002_toy --fast   # three
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import tf_keras

import tfslim
from benchmarks import record
from tfslim.training import FitOptions

UNITS = 1000
# The source stops when nothing falls; so many cycles at most.
MAX_CYCLES = 10
RANGES = {"[0, 1]": 0.0, "[-1, 1]": -1.0}
# Name -> training, and options of activation_pruning.
VARIANTS = {
    "count": (
        {"batch_size": 1000, "steps_per_epoch": 100, "schedule": "constant"},
        {"cycles": MAX_CYCLES},
    ),
    "auto, no re-fitting": (
        {"batch_size": 200, "steps_per_epoch": 60, "learning_rate": 0.005},
        {"threshold": "auto", "max_drop": 5e-7},
    ),
    "auto": (
        {"batch_size": 200, "steps_per_epoch": 60, "learning_rate": 0.005},
        {"threshold": "auto", "max_drop": 5e-7, "reconstruct": True},
    ),
}


def _data(low: float, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).uniform(low, 1.0, (number, 2)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def _training(low: float, seed: int, fit: dict) -> tfslim.Training:
    optimizer = "adam"
    if fit.get("schedule") == "constant":
        optimizer = tf_keras.optimizers.SGD(0.01, momentum=0.3)
    return tfslim.Training(
        train=_data(low, seed, 10_000),
        validation=_data(low, 1000 + seed, 2000),
        task="regression",
        options=FitOptions(epochs=10, seed=seed, optimizer=optimizer, **fit),
    )


def run(name: str, interval: str, seed: int) -> dict:
    fit, options = VARIANTS[name]
    training = _training(RANGES[interval], seed, fit)
    tf_keras.utils.set_random_seed(seed)
    model = tfslim.build_model("mlp", input_shape=(2,), hidden=(UNITS,))
    started = time.perf_counter()
    smaller, report = tfslim.activation_pruning(
        model, training.train[0], fine_tune=training, **options
    )
    hidden = smaller.get_layer("hidden1")
    row = {
        "variant": name,
        "inputs": interval,
        "seed": seed,
        "units": int(hidden.units),
        "loss": training.metric(smaller),
        "steps": len(report.steps),
        "removed": [s.removed if s.is_kept else -s.removed for s in report.steps],
        "seconds": round(time.perf_counter() - started, 1),
    }
    if hidden.units <= 2:
        row["weights"] = [w.tolist() for w in smaller.get_weights()]
    print(json.dumps({k: v for k, v in row.items() if k != "weights"}), flush=True)
    return row


def table(rows: list[dict]) -> list[dict]:
    """Returns one line a variant and range: units and loss over the seeds."""
    lines = []
    for interval in RANGES:
        for name in VARIANTS:
            found = [r for r in rows if (r["variant"], r["inputs"]) == (name, interval)]
            if found:
                units = [r["units"] for r in found]
                losses = [r["loss"] for r in found]
                lines.append(
                    {
                        "inputs": interval,
                        "variant": name,
                        "seeds": len(found),
                        "units_median": statistics.median(units),
                        "units_range": [min(units), max(units)],
                        "loss_median": statistics.median(losses),
                        "loss_max": max(losses),
                    }
                )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default=",".join(map(str, range(10))))
    parser.add_argument("--fast", action="store_true", help="three seeds, not ten")
    parser.add_argument("--variants", default=";".join(VARIANTS))
    parser.add_argument("--progress", help="a file of finished runs, to resume from")
    options = parser.parse_args()
    if options.fast:
        options.seeds = "0,1,2"
    progress = Path(options.progress) if options.progress else None
    rows = []
    if progress and progress.exists():
        rows = [json.loads(line) for line in progress.read_text().splitlines()]
    done = {(r["variant"], r["inputs"], r["seed"]) for r in rows}
    for seed in map(int, options.seeds.split(",")):
        for interval in RANGES:
            for name in options.variants.split(";"):
                if (name, interval, seed) in done:
                    continue
                rows.append(run(name, interval, seed))
                if progress:
                    with progress.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    for line in table(rows):
        print(json.dumps(line))
    record.save(
        "papers/paper_002",
        {"table": table(rows), "runs": rows},
        seeds=options.seeds,
        units_before=UNITS,
        steps={"source": "10 x 100 a cycle", "auto": "10 x 60 a cycle"},
        samples=10_000,
        validation_samples=2000,
        max_cycles=MAX_CYCLES,
        max_drop=5e-7,
    )


if __name__ == "__main__":
    main()
