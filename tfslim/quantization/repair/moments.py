"""Means and covariances of what the layers of a float model read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfslim import ops, tflite
from tfslim.quantization.repair.weights import WEIGHTED, Windows

# Positions of a layer's output that a sample adds to its statistics, at most and least;
# in between as many as give so many for each input of an output.
_POSITIONS, _FEW = 256, 32
_FOR_EACH = 6
# Positions whose products are added at once.
_TOGETHER = 256
# Inputs of one output beyond which inverting their matrix takes minutes.
MOST_WIDTH = 5_000
# Multiply-adds that rounding a model may cost: a second or two of one core.
_MOST_WORK = 5e10


class Mean:
    """The mean over all positions, per element of the last axis."""

    def __init__(self, tensor: tflite.Tensor):
        """Makes an empty one for `tensor`."""
        self._sum = np.zeros(tensor.shape[-1] if tensor.shape else 1)
        self._count = 0

    def update(self, values: np.ndarray) -> None:
        """Takes in values [..., channels]."""
        rows = values.reshape(-1, len(self._sum))
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self._count += len(rows)

    @property
    def value(self) -> np.ndarray:
        """Float64 [channels]."""
        return self._sum / max(self._count, 1)


class Moments:
    """Mean and covariance of what a layer's outputs read, group by group."""

    def __init__(self, windows: Windows, samples: int):
        """Makes an empty one, for so many samples."""
        self._windows = windows
        self._positions = _positions(windows, samples)
        self._count = 0
        self._waiting: list[np.ndarray] = []
        self._shift: np.ndarray | None = None

    def update(self, values: np.ndarray) -> None:
        """Takes in what the layer reads of samples [n, *shape]."""
        for sample in values:
            rows = self._windows.read(sample, self._positions).astype(np.float32)
            self._waiting.append(rows)
            if sum(rows.shape[1] for rows in self._waiting) >= _TOGETHER:
                self._take()

    def _take(self) -> None:
        """Adds the rows that wait: each time the whole matrix is read and written."""
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting, axis=1)
        self._waiting = []
        if self._shift is None:
            # Near the mean float32 sums stay exact enough.
            self._shift = rows.mean(axis=1, keepdims=True)
            self._sum = np.zeros(self._shift.shape, np.float64)
            self._products = np.zeros((len(rows), *rows.shape[2:] * 2), np.float32)
        rows -= self._shift
        self._sum += rows.sum(axis=1, keepdims=True, dtype=np.float64)
        self._products += rows.transpose(0, 2, 1) @ rows
        self._count += rows.shape[1]

    def moments(self, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean [groups, width] and E[x x'], of x - mean if `centred`."""
        self._take()
        assert self._shift is not None  # noqa: S101 - there was a sample.
        offset = (self._sum / self._count).astype(np.float32)
        mean = self._shift + offset
        matrix = self._products / np.float32(self._count)
        matrix -= offset.transpose(0, 2, 1) @ offset
        if not centred:
            matrix += mean.transpose(0, 2, 1) @ mean
        return mean[:, 0], matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Roundable:
    """A layer of a float file whose weights may be rounded by its moments.

    Attributes:
        windows: what its outputs read.
        output: what it writes.
        weights: as the file has them.
        scale: what an integer is worth, shaped to broadcast against `weights`.
    """

    windows: Windows
    output: tflite.Tensor
    weights: np.ndarray
    scale: np.ndarray

    @property
    def num_bytes(self) -> int:
        """The memory of its moments."""
        return 4 * self.windows.groups * self.windows.width**2

    @property
    def noise(self) -> float:
        """What nearest rounding takes of the weights: a share of their square sum.

        A twelfth of a step's square for each weight that is not zero.
        """
        axes = tuple(i for i, size in enumerate(self.scale.shape) if size == 1)
        counts = np.count_nonzero(self.weights, axis=axes, keepdims=True)
        signal = float(np.square(self.weights, dtype=np.float64).sum())
        return float((counts * np.square(self.scale)).sum()) / 12 / max(signal, 1e-30)

    def work(self, samples: int) -> float:
        """Counts multiply-adds: its moments, their factor and the rounding itself."""
        most = _positions(self.windows, samples)
        positions = samples * min(most, int(np.prod(self.output.shape[:-1])))
        width, groups = self.windows.width, self.windows.groups
        rows = self.weights.size / (width * groups)
        return float(groups * width**2 * (positions + width / 3 + rows))


def _positions(windows: Windows, samples: int) -> int:
    """Returns how many positions of a sample are looked at, spread evenly."""
    wanted = -(-_FOR_EACH * windows.width // max(samples, 1))
    return min(_POSITIONS, max(_FEW, wanted))


def worth_it(groups: Sequence[Sequence[Roundable]], samples: int) -> list[int]:
    """Chooses the layers that gain most for what they cost, before any work.

    What can be gained is the noise that nearest rounding brings.

    Args:
        groups: layers, those together that share their weights.
        samples: to gather moments of.

    Returns:
        The places of the groups chosen, the one that gains most first.
    """
    costs = np.array([sum(layer.work(samples) for layer in g) for g in groups])
    gains = np.array([group[0].noise for group in groups])
    order = np.argsort(-gains / costs)
    affordable = np.cumsum(costs[order]) <= _MOST_WORK
    chosen: list[int] = order[affordable].tolist()
    return chosen


def roundable_to_int8(graph: tflite.Graph) -> list[Roundable]:
    """Lists the layers of a float graph that have weights of their own, unrounded."""
    found = []
    for op in graph.ops:
        if op.name not in WEIGHTED:
            continue
        kernel = graph.tensors[op.inputs[1]]
        if kernel.data is None or len(graph.consumers[kernel.index]) > 1:
            continue
        axis = ops.WEIGHTS[op.name].output_axis % len(kernel.shape)
        others = tuple(i for i in range(len(kernel.shape)) if i != axis)
        scale = np.abs(kernel.data).max(axis=others, keepdims=True) / 127
        channels = graph.tensors[op.inputs[0]].shape[-1]
        windows = Windows(op, channels, kernel.data.shape)
        if windows.width <= MOST_WIDTH:
            output = graph.tensors[op.outputs[0]]
            found.append(Roundable(windows, output, kernel.data, scale))
    return found
