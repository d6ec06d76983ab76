"""Rounding of weights that makes up for its own errors.

Nearest rounding takes every weight for itself. GPTQ rounds a layer's weights one after
the other and lets those still to come take up the error, so that the layer's *output*
changes least over the samples: with inputs x, the squared error of a row of weights is
d' H d, H = E[x x']. Where the layer has a bias, that takes the mean error exactly,
and H is the covariance of x. For 4-bit weights the scale of each channel is chosen by
the same measure, from that of the largest weight down.
Source: Frantar et al., "GPTQ: accurate post-training quantization for generative
pre-trained transformers", ICLR 2023, https://arxiv.org/abs/2210.17323.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import threadpoolctl

from tfslim import tflite
from tfslim.quantization.collect import Samples, collect, kept_singles
from tfslim.quantization.edit import set_constant
from tfslim.quantization.pairs import Refused
from tfslim.quantization.prepare import prepare
from tfslim.quantization.weights import (
    Stored,
    Windows,
    pack_int4,
    stored_weights,
    twins,
    write_bias,
)
from tfslim.tflite import flatbuffer

MODES = ("nearest", "gptq")

# Positions of a layer's output that a sample adds to its statistics.
_POSITIONS = 256
# Inputs of one output beyond which inverting their matrix takes minutes.
_MOST_WIDTH = 5_000
# Inputs from which on several threads of BLAS do more than wait for each other.
_MANY_THREADS = 2_000
# Matrices that are in memory at a time.
_MOST_BYTES = 2**28
_BLOCK = 128
_MOST_CLUSTERS = 256
_DAMPING = 0.01
# Of the largest weight; only where there are few levels.
_SHRINKS = np.linspace(1.0, 0.4, 25)


@dataclasses.dataclass(frozen=True)
class Rounded:
    """What rounding does to one layer's output, over the samples it was fitted to.

    Attributes:
        tensor: name of its output.
        nearest_db: its SQNR in dB with the weights as they were.
        rounded_db: with those chosen.
    """

    tensor: str
    nearest_db: float
    rounded_db: float


@dataclasses.dataclass(frozen=True, eq=False)
class RoundResult:
    """A file with other weights, and what was left alone.

    Attributes:
        tflite: the file.
        rounded: a row for each layer that was rounded anew.
        refused: a row for each other layer with weights, with the reason.
    """

    tflite: bytes
    rounded: tuple[Rounded, ...]
    refused: tuple[Refused, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Layer:
    """A layer in both files.

    `op`, `stored` and `bias` are the quantized one's; `bias` is None, and so is
    `offset`, the float one's bias, where it is no constant of both.
    """

    windows: Windows
    source: tflite.Tensor
    output: tflite.Tensor
    weights: np.ndarray
    stored: Stored
    op: tflite.Op
    bias: tflite.Tensor | None
    offset: np.ndarray | None

    @property
    def num_bytes(self) -> int:
        return 4 * self.windows.groups * self.windows.width**2


class _Moments:
    """Mean and covariance of what a layer's outputs read, group by group."""

    def __init__(self, windows: Windows):
        self._windows = windows
        self._count = 0
        self._shift: np.ndarray | None = None

    def update(self, values: np.ndarray) -> None:
        rows = self._windows.read(values, _POSITIONS).astype(np.float32)
        if self._shift is None:
            # Near the mean float32 sums stay exact enough.
            self._shift = rows.mean(axis=1, keepdims=True)
            self._sum = np.zeros(self._shift.shape, np.float64)
            self._products = np.zeros((len(rows), *rows.shape[2:] * 2), np.float32)
        rows = rows - self._shift
        self._sum += rows.sum(axis=1, keepdims=True, dtype=np.float64)
        self._products += rows.transpose(0, 2, 1) @ rows
        self._count += rows.shape[1]

    def moments(self, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean [groups, width] and E[x x'], of x - mean if `centred`."""
        assert self._shift is not None  # noqa: S101 - there was a sample.
        offset = (self._sum / self._count).astype(np.float32)
        mean = self._shift + offset
        matrix = self._products / np.float32(self._count)
        matrix -= offset.transpose(0, 2, 1) @ offset
        if not centred:
            matrix += mean.transpose(0, 2, 1) @ mean
        return mean[:, 0], matrix


class _Readers:
    """The moments of all layers that read one tensor."""

    def __init__(self, tensor: tflite.Tensor, layers: Sequence[_Layer]):
        self.moments = {
            layer.op.index: _Moments(layer.windows)
            for layer in layers
            if layer.source.name == tensor.name
        }

    def update(self, values: np.ndarray) -> None:
        for moments in self.moments.values():
            for sample in values:
                moments.update(sample)


def round_weights(quantized: bytes, model: bytes, samples: Samples) -> RoundResult:
    """Rounds the INT8 or INT4 weights of a file anew, by GPTQ.

    Biases follow, and for 4 bits the scales.

    Args:
        quantized: the file made from `model`; it is not changed.
        model: the float `.tflite`.
        samples: about 64; all are kept in memory.

    Raises:
        ConfigError: a sample does not fit.
    """
    source = prepare(model)
    before, after = tflite.read(source), tflite.read(quantized)
    kept = kept_singles(samples, before)
    flat = flatbuffer.unpack(quantized)
    rows = []
    blas = threadpoolctl.ThreadpoolController()
    layers, refused = _layers(before.graphs[0], after.graphs[0])
    for chunk in _chunks(layers):
        seen, _ = collect(
            source, kept, statistic=functools.partial(_Readers, layers=chunk)
        )
        for layer in chunk:
            moments = seen[layer.source.name].moments.pop(layer.op.index)
            threads = 1 if layer.windows.width < _MANY_THREADS else None
            with blas.limit(limits=threads, user_api="blas"):
                rows.append(_round_layer(flat, layer, moments))
    attached = flatbuffer.attached_files(quantized)
    flatbuffer.drop_unused(flat)
    packed = flatbuffer.pack(flat, attached=attached)
    return RoundResult(packed, tuple(rows), tuple(refused))


def _layers(
    before: tflite.Graph, after: tflite.Graph
) -> tuple[list[_Layer], list[Refused]]:
    found, refused = [], []
    for op, twin in twins(before, after):
        source, weights = (before.tensors[i] for i in op.inputs[:2])
        output = before.tensors[op.outputs[0]]
        stored = stored_weights(twin, after)
        windows = Windows(op, source.shape[-1], weights.shape)
        if weights.data is None or stored is None:
            reason = "Its weights are no integers with one scale a channel."
            refused.append(Refused(output.name, reason))
            continue
        reason = _objection(weights.data, windows)
        if reason:
            refused.append(Refused(output.name, reason))
            continue
        found.append(
            _Layer(
                windows,
                source,
                output,
                weights.data,
                stored,
                twin,
                *_bias(op, twin, before, after),
            )
        )
    return found, refused


def _objection(weights: np.ndarray, windows: Windows) -> str:
    """Says why a layer's weights stay as they are, "" if they need not."""
    if len(np.unique(weights)) <= min(_MOST_CLUSTERS, weights.size // 8):
        return "Its weights have few values, which rounding them anew would spread."
    if windows.width > _MOST_WIDTH:
        return f"{windows.width} inputs to an output are more than {_MOST_WIDTH}."
    return ""


def _bias(
    op: tflite.Op, twin: tflite.Op, before: tflite.Graph, after: tflite.Graph
) -> tuple[tflite.Tensor | None, np.ndarray | None]:
    if (
        min(len(op.inputs), len(twin.inputs)) < 3
        or min(op.inputs[2], twin.inputs[2]) < 0
    ):
        return None, None
    offset, bias = before.tensors[op.inputs[2]].data, after.tensors[twin.inputs[2]]
    if offset is None or bias.data is None:
        return None, None
    return bias, offset


def _chunks(layers: Sequence[_Layer]) -> Iterator[list[_Layer]]:
    """Cuts layers into runs whose matrices fit into memory together."""
    chunk: list[_Layer] = []
    for layer in layers:
        total = sum(other.num_bytes for other in chunk) + layer.num_bytes
        if chunk and total > _MOST_BYTES:
            yield chunk
            chunk = []
        chunk.append(layer)
    if chunk:
        yield chunk


def _round_layer(flat: Any, layer: _Layer, moments: _Moments) -> Rounded:
    """Chooses a layer's integers and writes them."""
    mean, matrix = moments.moments(centred=layer.bias is not None)
    to_rows, stored = layer.windows.to_rows, layer.stored
    weights = to_rows(layer.weights)
    before = to_rows(stored.values).astype(np.float32)
    old_scale = to_rows(np.broadcast_to(stored.scale, stored.values.shape))[..., :1]
    scale = old_scale = old_scale.astype(np.float32)
    most = 2 ** (stored.bits - 1) - 1
    if _may_rescale(layer):
        scale = best_scale(weights, matrix, most)
    after = gptq(weights, scale, matrix, most)
    nearest_error = _error(before * old_scale - weights, matrix)
    error = _error(after * scale - weights, matrix)
    # Greedy as it is, it can lose a row: that one stays.
    worse = error > nearest_error
    after[worse], scale[worse] = before[worse], old_scale[worse]
    _write_weights(flat, layer, after, scale)
    if layer.bias is not None and layer.offset is not None:
        missing = (weights - after * scale) @ mean[..., None]
        offset = layer.offset + missing.reshape(-1)
        write_bias(flat, layer.op.index, layer.bias, offset)
    signal = float(_error(weights, matrix).sum())
    return Rounded(
        layer.output.name,
        _ratio_db(signal, float(nearest_error.sum())),
        _ratio_db(signal, float(np.minimum(error, nearest_error).sum())),
    )


def gptq(
    weights: np.ndarray, scale: np.ndarray, matrix: np.ndarray, most: int
) -> np.ndarray:
    """Rounds rows of weights so that (w - scale q)' H (w - scale q) is small.

    Zeros stay zeros: pruning made them, and files shrink by them.

    Args:
        weights: float32 array [groups, rows, width].
        scale: of each row, [groups, rows, 1].
        matrix: H of each group, [groups, width, width].
        most: integers lie in [-most, most].

    Returns:
        The integers q as float32, [groups, rows, width].
    """
    diagonal = np.einsum("gii->gi", matrix)
    # The inputs that matter most come first, as long as many can make up for them.
    order = np.argsort(-diagonal, axis=1, kind="stable")
    left = np.take_along_axis(weights, order[:, None], axis=2)
    is_zero = left == 0.0
    factor = _factor(matrix, order)
    integers = np.empty_like(left)
    width = left.shape[2]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = np.empty_like(left[:, :, start:end])
        for i in range(start, end):
            column = left[:, :, i, None]
            rounded = np.clip(np.rint(column / scale), -most, most)
            rounded[is_zero[:, :, i]] = 0.0
            integers[:, :, i] = rounded[..., 0]
            error = (column - rounded * scale) / factor[:, i, i, None, None]
            left[:, :, i + 1 : end] -= error * factor[:, None, i, i + 1 : end]
            errors[:, :, i - start] = error[..., 0]
        left[:, :, end:] -= errors @ factor[:, start:end, end:]
    inverse = np.argsort(order, axis=1, kind="stable")
    return np.take_along_axis(integers, inverse[:, None], axis=2)


def _factor(matrix: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the upper triangular U with U' U = the inverse of H, damped, in order."""
    damped = np.take_along_axis(matrix, order[:, :, None], axis=1)
    damped = np.take_along_axis(damped, order[:, None], axis=2).astype(np.float64)
    diagonal = np.einsum("gii->gi", damped)  # A view: what is added goes into it.
    size = diagonal.mean(axis=1, keepdims=True)
    diagonal += np.where(size > 0, _DAMPING * size, 1.0)
    # With both axes reversed, the lower Cholesky factor V is an upper one, H = V V'.
    lower = np.linalg.cholesky(damped[:, ::-1, ::-1])
    return np.linalg.inv(lower[:, ::-1, ::-1]).astype(np.float32)


def best_scale(weights: np.ndarray, matrix: np.ndarray, most: int) -> np.ndarray:
    """Returns the scale of each row that nearest rounding loses least with.

    Arguments and result as in `gptq`; inputs count by their own H alone.
    """
    importance = np.einsum("gii->gi", matrix)[:, None]
    scale = np.abs(weights).max(axis=2, keepdims=True) / np.float32(most)
    scale[scale == 0.0] = 1.0
    best, least = scale.copy(), np.full(scale.shape, np.inf, np.float32)
    for shrink in _SHRINKS:
        tried = scale * np.float32(shrink)
        rounded = np.clip(np.rint(weights / tried), -most, most) * tried
        error = (np.square(weights - rounded) * importance).sum(axis=2, keepdims=True)
        better = error < least
        best[better], least[better] = tried[better], error[better]
    return best


def _may_rescale(layer: _Layer) -> bool:
    """Whether there are few levels, a scale a row, and no bias that hangs on it."""
    params = layer.stored.tensor.quantization
    assert params is not None  # noqa: S101 - `stored_weights` has seen to it.
    is_free = layer.bias is None or layer.bias.dtype == "float32"
    return layer.stored.bits == 4 and params.is_per_channel and is_free


def _error(difference: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns d' H d of each row [groups, rows]."""
    return ((difference @ matrix) * difference).sum(axis=2)


def _ratio_db(signal: float, noise: float) -> float:
    return 10.0 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def _write_weights(
    flat: Any, layer: _Layer, rows: np.ndarray, scale: np.ndarray
) -> None:
    stored = layer.stored
    values = layer.windows.from_rows(rows).astype(np.int8)
    raw = values if stored.bits == 8 else pack_int4(values)
    set_constant(flat, stored.op.index, stored.position, raw)
    if not _may_rescale(layer):
        return
    graph = flat.subgraphs[0]
    index = graph.operators[stored.op.index].inputs[stored.position]
    tensor = graph.tensors[index]
    tensor.quantization = copy.copy(tensor.quantization)
    tensor.quantization.scale = scale.reshape(-1).astype(np.float32)
