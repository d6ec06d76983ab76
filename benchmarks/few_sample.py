"""ResNet-56 with real CIFAR-10 weights at 2.1x fewer MACs, with no training at all.

256 unlabelled images, or none (dead leaves in their place), choose the channels by the
error of the outputs and re-fit what is behind a cut. The trunk stays whole unless asked
for. The 2,500 test images are seen once for each row.

  TFSLIM_DATA=... python -m benchmarks.few_sample --seeds=0,1,2
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks import cifar_pruning, networks, record

SPEED_UP = 2.1
BATCH = 64
# What makes the sums along the residual trunk.
TRUNK = ("conv1", "*.conv2", "*.shortcut")


def images_of(kind: str, train, number: int, seed: int) -> np.ndarray:
    from tfslim.data import dead_leaves

    if kind == "data":
        return train[0][np.random.default_rng(seed).permutation(len(train[0]))[:number]]
    x = dead_leaves.dead_leaves(number, 32, width=32, seed=seed) / 255.0
    return ((x - networks.CIFAR_MEAN) / networks.CIFAR_STD).astype(np.float32)


def runs(base, kind: str, seed: int, data, options):
    """Cuts once, and yields a row for each weight of the regularization."""
    import tfslim
    from tfslim.graph import count, keras

    train, test = data
    x = images_of(kind, train, options.images, seed)
    batches = [x[first : first + BATCH] for first in range(0, len(x), BATCH)]
    before = count.count(keras.read(base))
    start = time.perf_counter()
    smaller, report = tfslim.prune_channels(
        base,
        criterion=options.criterion,
        budget=tfslim.Budget(
            max_macs=before.macs / SPEED_UP,
            divisor=1,
            scope="global" if options.criterion == "reconstruction" else "uniform",
            ignore=() if options.cut_trunk else TRUNK,
        ),
        data=batches,
    )
    pruning_s = time.perf_counter() - start
    cut = cifar_pruning.accuracy(smaller, test)
    for ridge in map(float, options.ridges.split(",")):
        start = time.perf_counter()
        fitted, done = tfslim.reconstruct_kernels(
            base, smaller, keep=report.keep, data=batches, ridge=ridge
        )
        fitting_s = time.perf_counter() - start
        after = count.count(keras.read(fitted))
        row = {
            "images": kind,
            "ridge": ridge,
            "seed": seed,
            "macs": after.macs,
            "speed_up": before.macs / after.macs,
            "params": after.params,
            "proof_error": report.error,
            "pruning_s": pruning_s,
            "fitting_s": fitting_s,
            "fitted_layers": len(done.errors),
            "channels": {name: int(kept.sum()) for name, kept in report.keep.items()},
            "accuracy_cut": cut,
            "accuracy": cifar_pruning.accuracy(fitted, test),
        }
        print(json.dumps(row), flush=True)
        yield row


def table(rows: list[dict]) -> list[dict]:
    """Returns the mean over the seeds of each kind of images and ridge."""
    found: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        found.setdefault((row["images"], row["ridge"]), []).append(row["accuracy"])
    return [
        {
            "images": kind,
            "ridge": ridge,
            "seeds": len(values),
            "accuracy_mean": float(np.mean(values)),
            "accuracy_least": min(values),
        }
        for (kind, ridge), values in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--kinds", default="data,none")
    parser.add_argument("--criterion", default="reconstruction")
    parser.add_argument("--ridges", default="0.001,0.01,0.1")
    parser.add_argument("--cut_trunk", action="store_true")
    options = parser.parse_args()
    folder = Path(os.environ["TFSLIM_DATA"])
    data = cifar_pruning.load_data(folder)
    weights = folder / "models" / "weights" / "resnet56_cifar10_torch.npz"
    base = networks.cifar_resnet(56, weights)
    original = cifar_pruning.accuracy(base, data[1])
    print(json.dumps({"original": original}), flush=True)
    rows: list[dict] = []
    for kind in options.kinds.split(","):
        for seed in options.seeds.split(","):
            for row in runs(base, kind, int(seed), data, options):
                rows.append(row)
                record.save(
                    "few_sample_resnet56",
                    {"original": original, "table": table(rows), "runs": rows},
                    **vars(options),
                    test_images=len(data[1][1]),
                )


if __name__ == "__main__":
    main()
