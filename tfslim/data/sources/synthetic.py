"""`synthetic`: data made from a seed, for trials without any file."""

from __future__ import annotations

import numpy as np

from tfslim.data.examples import ArrayExamples
from tfslim.data.sources import base

_DEFAULTS = {"classes": 10, "size": 32, "channels": 3, "examples": 1000}
_SUM_DEFAULTS = {"examples": 1000}


def load_synthetic(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Makes a dataset from `options.seed`.

    `synthetic:classes=10,size=32,channels=3,examples=1000` (these are the defaults):
    uint8 images; each class is a smooth random pattern under strong noise, so that a
    small network learns it in an epoch or two.

    `synthetic:sum` or `synthetic:sum,examples=1000`: the regression y = i1 + i2 with
    both inputs uniform in 0..1; x is float32 [n, 2], y float32 [n, 1].
    """
    kind, _, rest = argument.partition(",")
    if kind == "sum":
        settings = base.parse_options(rest, _SUM_DEFAULTS, source="synthetic")
        rng = np.random.default_rng(options.seed)
        x = rng.random((settings["examples"], 2), np.float32)
        examples = ArrayExamples(x, x.sum(axis=1, keepdims=True))
        splits = base.split_three_ways(examples, options, stratify=False)
        return base.Dataset(name="synthetic:sum", **splits, task="regression")
    settings = base.parse_options(argument, _DEFAULTS, source="synthetic")
    examples = _patterns(np.random.default_rng(options.seed), **settings)
    return base.Dataset(
        name="synthetic",
        **base.split_three_ways(examples, options, stratify=True),
        class_names=tuple(str(label) for label in range(settings["classes"])),
    )


def _patterns(
    rng: np.random.Generator, *, classes: int, size: int, channels: int, examples: int
) -> ArrayExamples:
    coarse = rng.uniform(64, 192, (classes, 4, 4, channels))
    nearest = np.arange(size) * 4 // size
    patterns = coarse[:, nearest][:, :, nearest]
    # Every class as often as the others, in random order.
    targets = rng.permutation(np.arange(examples) % classes)
    images = np.empty((examples, size, size, channels), np.uint8)
    for index, label in enumerate(targets):
        noise = rng.normal(0, 32, patterns.shape[1:])
        images[index] = np.clip(patterns[label] + noise, 0, 255)
    return ArrayExamples(images, targets.astype(np.int64))
