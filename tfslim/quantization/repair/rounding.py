"""Rounding of weights that makes up for its own errors.

Nearest rounding takes every weight for itself. GPTQ rounds a layer's weights one after
the other and lets those still to come take up the error, so that the layer's *output*
changes least over the samples. Where the layer has a bias, that takes the mean error
exactly, and H (see `gptq`) is the covariance of what the layer reads. For 4-bit weights
the scale of each channel is chosen by the same measure, from that of the largest weight
down.
Source: Frantar et al., "GPTQ: accurate post-training quantization for generative
pre-trained transformers", ICLR 2023, https://arxiv.org/abs/2210.17323.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import threadpoolctl

from tfslim import checks, tflite
from tfslim.quantization.ranges.collect import Samples, collect, kept_singles
from tfslim.quantization.repair.constants import set_constant
from tfslim.quantization.repair.gptq import best_scale, gptq, output_error
from tfslim.quantization.repair.moments import (
    MOST_WIDTH,
    Moments,
    Roundable,
    worth_it,
)
from tfslim.quantization.repair.scalable_pairs import Refused
from tfslim.quantization.repair.weights import (
    MatchedLayer,
    Stored,
    Windows,
    match_layers,
    pack_int4,
    write_bias,
)
from tfslim.quantization.rules.preprocess_model import prepare
from tfslim.tflite import flatbuffer

ROUNDINGS = ("nearest", "gptq")

# Matrices that are in memory at a time.
_MOST_BYTES = 2**28
_MOST_CLUSTERS = 256


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
class _Layer(Roundable):
    """A layer that is rounded, in both files."""

    matched: MatchedLayer
    stored: Stored


class _Readers:
    """Passes what is in a tensor on to the moments of all layers that read it."""

    def __init__(
        self, tensor: tflite.Tensor, moments: Sequence[tuple[_Layer, Moments]]
    ):
        self._moments = [
            m for layer, m in moments if layer.matched.source.name == tensor.name
        ]

    def update(self, values: np.ndarray) -> None:
        for moments in self._moments:
            moments.update(values)


@checks.by_name
def round_weights(
    quantized: bytes,
    model: bytes,
    *,
    samples: Samples,
    known: Mapping[str, Moments] | None = None,
) -> RoundResult:
    """Rounds the INT8 or INT4 weights of a file anew, by GPTQ.

    Biases follow, and for 4 bits the scales. Layers that share their weights, as the
    steps of an unrolled recurrent layer do, keep sharing them.

    Args:
        quantized: the file made from `model`; it is not changed.
        model: the float `.tflite`.
        samples: about 64; all are kept in memory.
        known: output of a layer -> moments of what it reads, gathered before.

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
    groups, spared = _worth_it(_by_weights(layers, flat), len(kept))
    refused += spared
    for group, moments in _with_moments(
        groups, source, samples=kept, known=known or {}
    ):
        # Several threads wait for each other longer than they work.
        with blas.limit(limits=1, user_api="blas"):
            rows += _round_group(flat, group, moments=moments)
    attached = flatbuffer.attached_files(quantized)
    flatbuffer.share_buffers(flat)
    packed = flatbuffer.pack(flat, attached=attached)
    return RoundResult(packed, tuple(rows), tuple(refused))


def _with_moments(
    groups: Sequence[list[_Layer]],
    source: bytes,
    *,
    samples: Sequence[tflite.Inputs],
    known: Mapping[str, Moments],
) -> Iterator[tuple[list[_Layer], Moments]]:
    """Yields layers that share their weights, with what they read."""
    missing = []
    for group in groups:
        name = group[0].output.name
        if len(group) == 1 and name in known:
            yield group, known[name]
        else:
            missing.append(group)
    for chunk in _chunks(missing):
        seen = [(group, Moments(group[0].windows, len(samples))) for group in chunk]
        readers = [(layer, moments) for group, moments in seen for layer in group]
        collect(source, samples, statistic=functools.partial(_Readers, moments=readers))
        yield from seen


def _layers(
    before: tflite.Graph, after: tflite.Graph
) -> tuple[list[_Layer], list[Refused]]:
    found, refused = [], []
    for layer in match_layers(before, after):
        weights, stored = layer.weights, layer.stored
        reason = "Its weights are no integers with one scale a channel."
        if weights is not None and stored is not None:
            windows = Windows(layer.op, layer.source.shape[-1], weights.shape)
            reason = _objection(weights, windows)
            if not reason:
                made = _Layer(
                    windows, layer.output, weights, stored.scale, layer, stored
                )
                found.append(made)
        if reason:
            refused.append(Refused(layer.output.name, reason))
    return found, refused


def _objection(weights: np.ndarray, windows: Windows) -> str:
    """Says why a layer's weights stay as they are, "" if they need not."""
    if len(np.unique(weights)) <= min(_MOST_CLUSTERS, weights.size // 8):
        return "Its weights have few values, which rounding them anew would spread."
    if windows.width > MOST_WIDTH:
        return f"{windows.width} inputs to an output are more than {MOST_WIDTH}."
    return ""


def _by_weights(layers: Sequence[_Layer], flat: Any) -> list[list[_Layer]]:
    """Puts layers together that share their weights in the file."""
    groups: dict[tuple[Any, ...], list[_Layer]] = {}
    for layer in layers:
        buffer = flat.subgraphs[0].tensors[layer.stored.tensor.index].buffer
        windows = layer.windows
        key = buffer, windows.op.name, windows.weights, windows.channels
        groups.setdefault(key, []).append(layer)
    return list(groups.values())


def _worth_it(
    groups: Sequence[list[_Layer]], samples: int
) -> tuple[list[list[_Layer]], list[Refused]]:
    """Leaves out what costs more than it gains."""
    chosen = set(worth_it(groups, samples))
    reason = "To round it anew costs more than it gains, beside the other layers."
    refused = [
        Refused(layer.matched.output.name, reason)
        for index, group in enumerate(groups)
        if index not in chosen
        for layer in group
    ]
    return [group for i, group in enumerate(groups) if i in chosen], refused


def _chunks(groups: Sequence[list[_Layer]]) -> Iterator[list[list[_Layer]]]:
    """Cuts groups into runs whose matrices fit into memory together."""
    chunk: list[list[_Layer]] = []
    for group in groups:
        total = sum(other[0].num_bytes for other in [*chunk, group])
        if chunk and total > _MOST_BYTES:
            yield chunk
            chunk = []
        chunk.append(group)
    if chunk:
        yield chunk


def _round_group(
    flat: Any, group: Sequence[_Layer], *, moments: Moments
) -> list[Rounded]:
    """Chooses the integers of layers with the same weights, and writes them."""
    layer = group[0]
    have_biases = all(other.matched.bias is not None for other in group)
    mean, matrix = moments.moments(centred=have_biases)
    to_rows, stored = layer.windows.to_rows, layer.stored
    weights = to_rows(layer.weights)
    before = to_rows(stored.values).astype(np.float32)
    old_scale = to_rows(np.broadcast_to(stored.scale, stored.values.shape))[..., :1]
    scale = old_scale = old_scale.astype(np.float32)
    most = 2 ** (stored.bits - 1) - 1
    is_rescaled = all(map(_may_rescale, group))
    if is_rescaled:
        scale = best_scale(weights, matrix, most=most)
    after = gptq(weights, scale, matrix=matrix, most=most)
    nearest_error = output_error(before * old_scale - weights, matrix)
    error = output_error(after * scale - weights, matrix)
    # Greedy as it is, it can lose a row: that one stays.
    worse = error > nearest_error
    after[worse], scale[worse] = before[worse], old_scale[worse]
    missing = ((weights - after * scale) @ mean[..., None]).reshape(-1)
    _write_weights(flat, group, rows=after, scale=scale if is_rescaled else None)
    for matched in (other.matched for other in group):
        if have_biases and matched.bias is not None and matched.offset is not None:
            offset = matched.offset + missing
            write_bias(flat, matched.matched.index, bias=matched.bias, values=offset)
    signal = float(output_error(weights, matrix).sum())
    nearest_db = _ratio_db(signal, float(nearest_error.sum()))
    rounded_db = _ratio_db(signal, float(np.minimum(error, nearest_error).sum()))
    return [
        Rounded(other.matched.output.name, nearest_db, rounded_db) for other in group
    ]


def _may_rescale(layer: _Layer) -> bool:
    """Whether there are few levels, a scale a row, and no bias that hangs on it."""
    params = layer.stored.tensor.quantization
    assert params is not None  # noqa: S101 - `stored_weights` has seen to it.
    bias = layer.matched.bias
    is_free = bias is None or bias.dtype == "float32"
    return layer.stored.bits == 4 and params.is_per_channel and is_free


def _ratio_db(signal: float, noise: float) -> float:
    return 10.0 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def _write_weights(
    flat: Any, group: Sequence[_Layer], *, rows: np.ndarray, scale: np.ndarray | None
) -> None:
    """Writes the integers, and the scale of each row unless it stays."""
    stored = group[0].stored
    values = group[0].windows.from_rows(rows).astype(np.int8)
    raw = values if stored.bits == 8 else pack_int4(values)
    places = [(other.stored.op.index, other.stored.position) for other in group]
    set_constant(flat, places, values=raw)
    if scale is None:
        return
    graph = flat.subgraphs[0]
    for op, position in places:
        tensor = graph.tensors[graph.operators[op].inputs[position]]
        tensor.quantization = copy.copy(tensor.quantization)
        tensor.quantization.scale = scale.reshape(-1).astype(np.float32)
