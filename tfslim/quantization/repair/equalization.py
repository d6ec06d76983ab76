"""Cross-layer equalization and bias absorption on a float `.tflite`.

Between two layers with nothing but ReLU, pooling or padding in between, a channel may
be scaled down before and up after: the function stays, but a channel that was 100
times as large as the others no longer takes all INT8 levels of its tensor.
Source: Nagel et al., "Data-free quantization through weight equalization and bias
correction", ICCV 2019, https://arxiv.org/abs/1906.04721, sections 4.1 and 4.1.3.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfslim import tflite
from tfslim.quantization.ranges.collect import Samples, collect
from tfslim.quantization.repair.constants import set_constant
from tfslim.quantization.repair.scalable_pairs import Constants, Pair, Refused, pairs
from tfslim.quantization.rules.preprocess_model import prepare
from tfslim.tflite import flatbuffer, metadata

# The key in tfslim's metadata.
_ENTRY = "equalized"
_ROUNDS = 20
_CLOSE = 1e-3
# A factor beyond is no help to 8 bits and an end to float precision.
_MOST = 1e4
# Of a channel's measured span: how far below its least value it may still go.
_MARGIN = 0.25


@dataclasses.dataclass(frozen=True)
class Equalized:
    """Two layers that were balanced.

    Attributes:
        first: output tensor of the layer whose channels were scaled.
        second: output tensor of the one that scales back.
        largest: the largest factor of a channel against the pair's median.
        absorbed: channels whose constant part went into the second layer's bias.
    """

    first: str
    second: str
    largest: float
    absorbed: int


@dataclasses.dataclass(frozen=True, eq=False)
class EqualizeResult:
    """An equalized float file, what was done and what was left alone.

    Attributes:
        tflite: the file.
        equalized: a row for each pair.
        refused: a row for each layer whose channels cannot be scaled, with the reason.
    """

    tflite: bytes
    equalized: tuple[Equalized, ...]
    refused: tuple[Refused, ...]


class _ChannelExtremes:
    """Least and greatest value per element of the last axis."""

    def __init__(self, tensor: tflite.Tensor):
        size = tensor.shape[-1] if tensor.shape else 1
        self.min = np.full(size, np.inf)
        self.max = np.full(size, -np.inf)

    def update(self, values: np.ndarray) -> None:
        rows = values.reshape(-1, len(self.min))
        self.min = np.minimum(self.min, rows.min(axis=0))
        self.max = np.maximum(self.max, rows.max(axis=0))

    @property
    def floor(self) -> np.ndarray:
        """What a channel does not fall below on other samples of the kind, either."""
        return self.min - _MARGIN * (self.max - self.min)


def equalize(model: bytes, samples: Samples | None = None) -> EqualizeResult:
    """Balances the channels of neighbouring layers; the function stays the same.

    Args:
        model: the float `.tflite`; it is not changed.
        samples: with some, a channel's size before the second layer is measured, and
            channels that stay well above a constant give it to the second layer's
            bias: one that on other data fell by more than a quarter of its measured
            span below its least value would be cut. Without, the size is taken from the
            weights, and the function is the same for all inputs.
    """
    source = prepare(model)
    graph = tflite.read(source).graphs[0]
    found, refused = pairs(graph)
    if not found:
        return EqualizeResult(source, (), tuple(refused))
    measured: dict[str, _ChannelExtremes] = {}
    if samples is not None:
        measured, _ = collect(source, samples, statistic=_ChannelExtremes)
    constants = read_constants(found, graph)
    totals = _balance(found, constants, measured)
    rows = []
    for pair, total in zip(found, totals, strict=True):
        seen = measured.get(pair.first_tensor.name)
        ratio = total / np.median(total)
        rows.append(
            Equalized(
                first=pair.first_tensor.name,
                second=pair.second_tensor.name,
                largest=float(np.maximum(ratio, 1.0 / ratio).max()),
                absorbed=pair.absorb(constants, seen.floor / total) if seen else 0,
            )
        )
    written = write_constants(source, constants)
    entry = (metadata.get_json(written) or {}) | {_ENTRY: True}
    return EqualizeResult(
        metadata.put_json(written, entry), tuple(rows), tuple(refused)
    )


def is_equalized(model: bytes) -> bool:
    """Whether `equalize` changed the file, and its ranges are no one else's."""
    return bool((metadata.get_json(model) or {}).get(_ENTRY))


def read_constants(found: list[Pair], graph: tflite.Graph) -> Constants:
    """Reads the weights and biases of all pairs."""
    values: Constants = {}
    for op in (op for pair in found for op in (pair.first, pair.second)):
        for position in (1, 2):
            if len(op.inputs) > position and op.inputs[position] >= 0:
                data = graph.tensors[op.inputs[position]].data
                assert data is not None  # noqa: S101 - `pairs` has seen to it.
                values[op.index, position] = data.astype(np.float64)
    return values


def _balance(
    found: list[Pair], constants: Constants, measured: dict[str, _ChannelExtremes]
) -> list[np.ndarray]:
    """Scales `constants` until all pairs are even; returns what each was divided by."""
    totals = [np.ones(pair.channels) for pair in found]
    for _ in range(_ROUNDS):
        largest = 0.0
        for pair, total in zip(found, totals, strict=True):
            seen = measured.get(pair.first_tensor.name)
            first = (
                pair.first_size(constants)
                if seen is None
                else np.maximum(seen.max, -seen.min) / total
            )
            factor = equalizing_factor(first, pair.second_size(constants))
            pair.scale(constants, factor)
            total *= factor
            largest = max(largest, float(np.abs(np.log(factor)).max()))
        if largest < _CLOSE:
            break
    return totals


def equalizing_factor(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns what to divide the first layer by, so that both sizes are equal."""
    alive = (first > 0) & (second > 0)
    factor = np.ones(len(first))
    factor[alive] = np.sqrt(first[alive] / second[alive])
    if not alive.any():
        return factor
    # One factor for all channels changes nothing; the median stays as it was.
    factor[alive] /= np.median(factor[alive])
    return np.clip(factor, 1.0 / _MOST, _MOST)


def write_constants(source: bytes, constants: Constants) -> bytes:
    """Writes weights and biases of single ops into a copy of a float file."""
    flat = flatbuffer.unpack(source)
    for (op, position), values in constants.items():
        set_constant(flat, [(op, position)], values.astype(np.float32))
    flatbuffer.drop_unused(flat)
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(source))
