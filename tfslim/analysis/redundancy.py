"""How much of the weights could go: what repeats, what is near zero, what is flat."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfslim import ops, tflite
from tfslim.graph import ir
from tfslim.quantization.layers.layer_names import LayerNames

# A channel below that share of its layer's largest norm is near zero.
_NEAR_ZERO = 0.01
# Filters whose directions agree as much are near duplicates.
_ALIKE = 0.98
# Numerical rank: singular values that hold so much of the energy.
_ENERGY = 0.99
# Larger kernels are looked at through a random part of their inputs.
_MOST_COLUMNS = 2048
_MOST_CHANNELS = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class Redundancy:
    """Of one kernel.

    Attributes:
        index: of the op.
        where: its layer or tensor.
        channels: its output channels.
        near_zero: channels whose norm is below 1% of the largest one's.
        duplicates: channels that point where another one does (cosine above 0.98).
        rank: of the kernel as a matrix [channels, rest], for 99% of its energy.
        full_rank: the smaller side of that matrix.
    """

    index: int
    where: str
    channels: int
    near_zero: int
    duplicates: int
    rank: int
    full_rank: int


def kernels(data: bytes) -> list[Redundancy]:
    """Looks at each constant kernel of a `.tflite`, whatever its type and form."""
    model = tflite.read(data)
    graph, names = model.graphs[0], LayerNames(model)
    found = []
    for op in graph.ops:
        place = ops.WEIGHTS.get(op.name)
        if place is None or len(op.inputs) <= place.kernel:
            continue
        values = _real(graph.stored(op.inputs[place.kernel]))
        if values is None or values.ndim < 2 or values.size == 0:
            continue
        rows = np.moveaxis(values, place.output_axis, 0)
        rows = rows.reshape(len(rows), -1)
        found.append(_of(op.index, names.first(op) or graph.name_of(op), rows=rows))
    return found


def _real(tensor: tflite.Tensor) -> np.ndarray | None:
    values = tensor.data
    if values is None:
        return None
    scale = tensor.quantization
    if scale is None:
        return values.astype(np.float32) if "float" in tensor.dtype else None
    shape = [1] * values.ndim
    if scale.is_per_channel:
        shape[scale.axis] = -1
    real = values.astype(np.float32) - scale.zero_point.reshape(shape)
    return real * scale.scale.reshape(shape)


def _of(index: int, where: str, *, rows: np.ndarray) -> Redundancy:
    random = np.random.default_rng(0)
    if rows.shape[1] > _MOST_COLUMNS:
        rows = rows[:, random.choice(rows.shape[1], _MOST_COLUMNS, replace=False)]
    part = rows[:_MOST_CHANNELS]
    norms = np.linalg.norm(part, axis=1)
    alive = norms > _NEAR_ZERO * norms.max(initial=0.0)
    directions = part[alive] / norms[alive, None]
    duplicates = 0
    if directions.shape[1] > 1:
        cosines = np.abs(directions @ directions.T)
        np.fill_diagonal(cosines, 0.0)
        # The first of each group of alike ones stays.
        duplicates = int((np.tril(cosines) > _ALIKE).any(axis=1).sum())
    return Redundancy(
        index=index,
        where=where,
        channels=len(rows),
        near_zero=int((~alive).sum()),
        duplicates=duplicates,
        rank=_rank(part),
        full_rank=min(part.shape),
    )


def _rank(rows: np.ndarray) -> int:
    # Squares of the singular values, by the smaller of the two products.
    small = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    energy = np.maximum(np.linalg.eigvalsh(small.astype(np.float64))[::-1], 0.0)
    if not energy.sum():
        return 0
    return int(np.searchsorted(np.cumsum(energy), _ENERGY * energy.sum()) + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scales:
    """The scales of one batch normalization.

    Attributes:
        layer: its name.
        channels: their number.
        near_zero: scales below 1% of the largest one: those channels hardly count.
    """

    layer: str
    channels: int
    near_zero: int


def batch_norm_scales(graph: ir.Graph) -> list[Scales]:
    """Looks at the scales of a Keras model's batch normalizations.

    Source: Liu et al., "Network Slimming", 2017, https://arxiv.org/abs/1708.06519.
    """
    found = []
    for layer in graph.layers.values():
        gamma = layer.weights.get("gamma")
        if layer.op != "BatchNormalization" or gamma is None:
            continue
        size = np.abs(np.asarray(gamma, np.float32))
        near = int((size <= _NEAR_ZERO * size.max(initial=0.0)).sum())
        found.append(Scales(layer=layer.name, channels=size.size, near_zero=near))
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeadChannels:
    """Channels of an activation that never move on the samples given."""

    where: str
    channels: int
    dead: int


def dead_activations(data: bytes, samples: list[tflite.Inputs]) -> list[DeadChannels]:
    """Finds channels that have one and the same value on all samples.

    Args:
        data: the file, float or quantized.
        samples: inputs as it takes them.
    """
    runner = tflite.Runner(data, preserve_all_tensors=True)
    graph, names = runner.model.graphs[0], LayerNames(runner.model)
    watched = [op for op in graph.ops if op.name in ops.WEIGHTS]
    extremes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for sample in samples:
        runner.set_inputs(sample)
        runner.invoke()
        for op in watched:
            value = runner.interpreter.get_tensor(op.outputs[0])
            flat = value.reshape(-1, value.shape[-1])
            low, high = flat.min(axis=0), flat.max(axis=0)
            if op.index in extremes:
                before = extremes[op.index]
                low, high = np.minimum(low, before[0]), np.maximum(high, before[1])
            extremes[op.index] = low, high
    return list(_dead(watched, extremes, graph=graph, names=names))


def _dead(
    watched: list[tflite.Op],
    extremes: dict[int, tuple[np.ndarray, np.ndarray]],
    *,
    graph: tflite.Graph,
    names: LayerNames,
) -> Iterator[DeadChannels]:
    for op in watched:
        if op.index not in extremes:
            continue
        low, high = extremes[op.index]
        yield DeadChannels(
            where=names.first(op) or graph.name_of(op),
            channels=len(low),
            dead=int((low == high).sum()),
        )
