"""Disjoint train, validation and test parts, by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfslim import errors


def split_indices(
    targets: np.ndarray, fractions: Sequence[float], *, seed: int, stratify: bool
) -> list[np.ndarray]:
    """Parts the positions 0..n-1 at random.

    Args:
        targets: array [n, ...]; with `stratify`, class indices [n].
        fractions: share of each part but the last, which takes the rest; a share
            above 0 gives at least one example.
        seed: the same seed gives the same parts.
        stratify: keeps the shares within every class (rounded to whole examples).

    Returns:
        `len(fractions) + 1` ascending int64 arrays: disjoint, together all of 0..n-1.

    Raises:
        ConfigError: the fractions are not shares that leave something.
        DataError: there are too few examples for a part.
    """
    if any(not 0.0 <= f < 1.0 for f in fractions) or sum(fractions) >= 1.0:
        raise errors.ConfigError(
            f"Split fractions must be in [0, 1) and sum to less than 1, got "
            f"{tuple(fractions)}. 0.1 takes 10% of the examples."
        )
    rng = np.random.default_rng(seed)
    # A key per example: its place in a random order of its class, 0..1. Cutting the
    # examples sorted by key cuts all classes alike, whatever their size.
    count = len(targets)
    key = np.empty(count)
    classes = targets if stratify else np.zeros(count, np.int64)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        key[members] = (rng.permutation(len(members)) + rng.random()) / len(members)
    order = np.argsort(key, kind="stable")
    sizes = [max(1, round(count * f)) if f else 0 for f in fractions]
    if sum(sizes) >= count:
        raise errors.DataError(
            f"{count} examples are too few to be split by {tuple(fractions)}."
        )
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]
