"""Tensors of two graphs, put together where their values are equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfslim.graph import ir

# Of the largest value. Fused and folded float32 differs by some 1e-5; a fresh batch
# norm changes its input by 5e-4.
_TOLERANCE = 1e-4
# Elements that are compared before all are.
_FEW = 64


class SharedValues:
    """Numbers every value that occurs in one of two graphs.

    A constant value proves nothing, many tensors may be all zero: it counts as a value
    of its own each time.
    """

    def __init__(
        self,
        tensors: Mapping[int, Sequence[np.ndarray]],
        refs: Mapping[ir.TensorRef, Sequence[np.ndarray]],
        *,
        same: Mapping[ir.TensorRef, int] | None = None,
    ):
        """Numbers the values.

        Args:
            tensors: what each tensor of the one graph held, input for input, in order
                of computation.
            refs: the same of the other.
            same: tensors that are the same if their values are, constant or not.
        """
        same = same or {}
        self._values: list[np.ndarray] = []
        self._largest: list[float] = []
        self._by_size: dict[int, list[int]] = {}
        self._tensors: list[list[int]] = []
        self._refs: list[list[ir.TensorRef]] = []
        self._numbers: dict[ir.TensorRef, int] = {}
        of_tensor = {}
        for tensor, arrays in tensors.items():
            of_tensor[tensor] = self._place(arrays)
            self._tensors[of_tensor[tensor]].append(tensor)
        for ref, arrays in refs.items():
            known = of_tensor.get(same.get(ref, -1))
            if known is None or self._distance(_flat(arrays), known) > _TOLERANCE:
                known = self._place(arrays)
            self._numbers[ref] = known
            self._refs[self._numbers[ref]].append(ref)

    def number(self, ref: ir.TensorRef) -> int | None:
        """Returns the number of a tensor's value, None if it was not computed."""
        return self._numbers.get(ref)

    def is_shared(self, ref: ir.TensorRef) -> bool:
        """Whether the other graph has the value, too."""
        number = self._numbers.get(ref)
        return number is not None and bool(self._tensors[number])

    def shared(self) -> Iterator[tuple[list[int], list[ir.TensorRef]]]:
        """Yields the tensors of both graphs that have one value."""
        for tensors, refs in zip(self._tensors, self._refs, strict=True):
            if tensors and refs:
                yield tensors, refs

    def _place(self, arrays: Sequence[np.ndarray]) -> int:
        """Returns the number of the closest value, a new one if none is close."""
        value = _flat(arrays)
        known = self._by_size.setdefault(value.size, [])
        proves = value.size > 1 and bool(np.ptp(value) > 0)
        distances = {n: self._distance(value, n) for n in known} if proves else {}
        best = min(distances, key=distances.__getitem__, default=None)
        if best is not None and distances[best] <= _TOLERANCE:
            return best
        self._values.append(value)
        self._largest.append(float(np.abs(value).max(initial=1e-30)))
        self._tensors.append([])
        self._refs.append([])
        if proves:
            known.append(len(self._values) - 1)
        return len(self._values) - 1

    def _distance(self, value: np.ndarray, number: int) -> float:
        other, largest = self._values[number], self._largest[number]
        if other.size != value.size:
            return np.inf
        step = max(1, value.size // _FEW)
        few = float(np.abs(value[::step] - other[::step]).max()) / largest
        if few > _TOLERANCE:
            return few
        return float(np.abs(value - other).max()) / largest


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.reshape(-1) for array in arrays])
