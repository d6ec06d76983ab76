"""`digits`: scikit-learn's 1,797 real handwritten digits, inside the package."""

from __future__ import annotations

import numpy as np
from sklearn import datasets

from tfslim.data.examples import ArrayExamples
from tfslim.data.sources import base


def load_digits(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads the test part of UCI's optical recognition of handwritten digits.

    8x8 grey images, ten classes. Source: Alpaydin and Kaynak, 1998,
    https://archive.ics.uci.edu/dataset/80. Its pixels 0..16 are scaled to 0..255.
    """
    base.no_argument(argument, source="digits")
    raw = datasets.load_digits()
    images = np.round(raw.images * (255 / 16)).astype(np.uint8)[..., None]
    examples = ArrayExamples(images, raw.target.astype(np.int64))
    return base.Dataset(
        name="digits",
        **base.split_three_ways(examples, options, stratify=True),
        class_names=tuple(str(digit) for digit in range(10)),
    )
