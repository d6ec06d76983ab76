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
from tfslim.quantization.ranges.statistics import ChannelExtremes
from tfslim.quantization.repair.balance import balance, equalizing_factor
from tfslim.quantization.repair.constants import set_constant
from tfslim.quantization.repair.scalable_pairs import Constants, Pair, Refused, pairs
from tfslim.quantization.rules.preprocess_model import prepare
from tfslim.tflite import flatbuffer, metadata

# The key in tfslim's metadata.
_ENTRY = "equalized"
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
    measured: dict[str, ChannelExtremes] = {}
    if samples is not None:
        measured, _ = collect(source, samples, statistic=ChannelExtremes)
    constants = read_constants(found, graph)
    between = [measured.get(pair.first_tensor.name) for pair in found]
    sizes = [None if one is None else np.maximum(one.max, -one.min) for one in between]
    totals = balance(found, constants, measured=sizes)
    rows = []
    for pair, total, seen in zip(found, totals, between, strict=True):
        ratio = total / np.median(total)
        rows.append(
            Equalized(
                first=pair.first_tensor.name,
                second=pair.second_tensor.name,
                largest=float(np.maximum(ratio, 1.0 / ratio).max()),
                absorbed=pair.absorb(constants, _floor(seen) / total) if seen else 0,
            )
        )
    written = write_constants(source, constants)
    entry = (metadata.get_json(written) or {}) | {_ENTRY: True}
    return EqualizeResult(
        metadata.put_json(written, entry), tuple(rows), tuple(refused)
    )


def unevenness(model: bytes) -> float:
    """Returns the largest factor of a channel against its others, by the weights.

    That of the first round of `equalize`: without a run, and without a changed file.
    """
    graph = tflite.read(prepare(model)).graphs[0]
    found, _ = pairs(graph)
    weighted = {op.index: op for pair in found for op in (pair.first, pair.second)}
    constants = {
        (index, 1): data
        for index, op in weighted.items()
        if (data := graph.constant(op.inputs[1])) is not None
    }
    factors = [
        equalizing_factor(pair.first_size(constants), pair.second_size(constants))
        for pair in found
    ]
    return max((float(np.maximum(f, 1 / f).max()) for f in factors), default=0.0)


def _floor(seen: ChannelExtremes) -> np.ndarray:
    """Returns what channels do not fall below on other samples of the kind, either."""
    return seen.min - _MARGIN * (seen.max - seen.min)


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


def write_constants(source: bytes, constants: Constants) -> bytes:
    """Writes weights and biases of single ops into a copy of a float file."""
    flat = flatbuffer.unpack(source)
    for (op, position), values in constants.items():
        set_constant(flat, [(op, position)], values=values.astype(np.float32))
    flatbuffer.drop_unused(flat)
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(source))
