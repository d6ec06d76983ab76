"""Labels of channels: which channels of which tensors can only be cut together."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

# One label per position of a tensor: an array of the tensor's rank whose axes are
# either whole or, where the label does not depend on the position, 1 long.
LabelArray: TypeAlias = npt.NDArray[np.int64]

# The label of what is never cut.
FIXED = 0


class Labels:
    """A union-find over labels, which also knows why some may not be cut."""

    def __init__(self) -> None:
        """Starts with the label FIXED alone."""
        self._parents = np.zeros(1, np.int64)
        # Root -> the first reason; FIXED needs none.
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        """The number of labels, FIXED included."""
        return len(self._parents)

    def fresh(self, count: int) -> LabelArray:
        """Returns `count` new labels, each of its own."""
        labels = np.arange(len(self), len(self) + count, dtype=np.int64)
        self._parents = np.concatenate([self._parents, labels])
        return labels

    def roots(self, labels: LabelArray) -> LabelArray:
        """Returns, for each label, the one that stands for all united with it."""
        roots = self._parents[labels]
        while True:
            higher = self._parents[roots]
            if np.array_equal(higher, roots):
                return roots
            roots = higher

    def unite(self, first: LabelArray, second: LabelArray, reason: str) -> None:
        """Makes labels at equal positions one; arrays broadcast.

        A label that meets FIXED is frozen for `reason`.
        """
        first, second = np.broadcast_arrays(first, second)
        pairs = np.stack([self.roots(first).ravel(), self.roots(second).ravel()])
        pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
        fixed = (pairs == FIXED).any(axis=0)
        self.freeze(pairs[:, fixed].max(axis=0, initial=FIXED), reason)
        low, high = np.sort(pairs[:, ~fixed], axis=0)
        if len(np.unique(high)) == len(high) and not np.isin(high, low).any():
            self._hang(high, low)  # The usual case: channels side by side.
            return
        for one, other in zip(low, high, strict=True):
            ends = np.sort(self.roots(np.array([one, other])))
            self._hang(ends[1:], ends[:1])

    def _hang(self, high: LabelArray, low: LabelArray) -> None:
        """Puts roots below lower ones, with their reasons."""
        self._parents[high] = low
        for one, other in zip(high, low, strict=True) if self._reasons else ():
            if one != other and int(one) in self._reasons:
                self._reasons.setdefault(int(other), self._reasons[int(one)])

    def freeze(self, labels: LabelArray, reason: str) -> None:
        """Forbids to cut labels; the first reason is the one that is reported."""
        for root in np.unique(self.roots(labels)):
            if root != FIXED:
                self._reasons.setdefault(int(root), reason)

    def explain(self, labels: LabelArray, reason: str) -> None:
        """Freezes labels for a reason that is better than any other."""
        for root in np.unique(self.roots(labels)):
            if root != FIXED:
                self._reasons[int(root)] = reason

    def reason(self, label: int) -> str | None:
        """Returns why a label may not be cut, None if it may."""
        return self._reasons.get(int(self.roots(np.array([label]))[0]))

    def frozen(self) -> npt.NDArray[np.bool_]:
        """Returns, for each label, whether it may not be cut."""
        roots = self.roots(np.arange(len(self)))
        return np.isin(roots, [FIXED, *self._reasons])
