"""Nearest-neighbor upsampling that is spelled out, as the one op that it is.

Keras 3's UpSampling2D repeats rows and columns by 5-D TILEs, others by concatenation,
broadcasting or gathering: slow on a CPU, and refused by GPUs and NPUs. What a chain of
such ops does to places is computed with numbers for values; where that is an upsampling
by whole factors, RESIZE_NEAREST_NEIGHBOR takes its place.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops
from tfslim.tflite import flatbuffer, reading

# Elements of a tensor whose places are looked at.
_MOST = 2**24
_ALONE = {n for n in ops.tflite("chw") if ops.TFLITE[n].inputs == (1, 1)}
_KINDS = (schema.TensorType.FLOAT32, schema.TensorType.INT8)


def use_resize(flat: Any, *, of_joined: bool = True) -> bool:
    """Replaces spelled-out upsampling in the main graph of a `schema.ModelT`.

    Args:
        flat: changed in place.
        of_joined: also what is spelled by joining tensors, which XNNPACK runs in one
            partition with its surroundings, as it does not RESIZE_NEAREST_NEIGHBOR.

    Returns:
        Whether anything changed.
    """
    changed = False
    _raise_reshapes(flat)
    while (found := _find(flat, of_joined)) is not None:
        _replace(flat, found)
        changed = True
    if changed:
        flatbuffer.drop_tensors(flat)
        flatbuffer.drop_unused(flat)
    return changed


def _raise_reshapes(flat: Any) -> None:
    """Lets a RESHAPE behind values repeated stand before an activation, not after it.

    TensorFlow's converter puts it after, and the activation between the two.
    """
    graph = flat.subgraphs[0]
    names = [reading.op_name(code)[0] for code in flat.operatorCodes]
    given = {i: op for op in graph.operators for i in reading.numbers(op.outputs)}
    read = [i for op in graph.operators for i in reading.numbers(op.inputs)]
    read += reading.numbers(graph.outputs)
    for op in reversed(graph.operators):
        if names[op.opcodeIndex] != "RESHAPE":
            continue
        source, *shape = reading.numbers(op.inputs)
        other = given.get(source)
        while other is not None and names[other.opcodeIndex] in _ALONE:
            (before,) = reading.numbers(other.inputs)
            producer = given.get(before)
            if read.count(source) != 1 or producer is None:
                break
            if names[producer.opcodeIndex] not in (*_MOVES, *_ALONE):
                break
            _swap(flat, other, reshape=op, shape=shape)
            given |= {i: op for i in reading.numbers(op.outputs)}
            given |= {i: other for i in reading.numbers(other.outputs)}
            source, other = before, producer


def _swap(flat: Any, activation: Any, *, reshape: Any, shape: list[int]) -> None:
    """Swaps an op that takes each value by itself and the RESHAPE behind it."""
    graph = flat.subgraphs[0]
    (before,) = reading.numbers(activation.inputs)
    (after,) = reading.numbers(reshape.outputs)
    wide = reading.numbers(graph.tensors[after].shape)
    between = _add(flat, before, ending=b";reshaped", shape=wide)
    places = [graph.operators.index(op) for op in (activation, reshape)]
    reshape.inputs, reshape.outputs = [before, *shape], [between]
    activation.inputs, activation.outputs = [between], [after]
    graph.operators[places[1]] = activation
    graph.operators[places[0]] = reshape


@dataclasses.dataclass(frozen=True)
class _Upsampling:
    """A tensor that is another one, its rows and columns repeated."""

    place: int
    source: int
    target: int
    height: int
    width: int


def _find(flat: Any, of_joined: bool) -> _Upsampling | None:
    """Finds the tensor farthest down a chain that is an upsampling of one in it."""
    graph = flat.subgraphs[0]
    names = [reading.op_name(code)[0] for code in flat.operatorCodes]
    chains = _Chains(flat)
    left = frozenset() if of_joined else ops.tflite("joining")
    for place, op in enumerate(graph.operators):
        if names[op.opcodeIndex] not in left:
            chains.follow(place, op, name=names[op.opcodeIndex])
    for target in sorted(chains.places, key=lambda t: -chains.places[t]):
        for source in chains.ancestors(target):
            sizes = chains.factors(source, target)
            if sizes is not None:
                return _Upsampling(chains.places[target], source, target, *sizes)
    return None


class _Chains:
    """Which tensors are others moved, and where each of their values comes from."""

    def __init__(self, flat: Any):
        self._flat = flat
        self._graph = flat.subgraphs[0]
        # Tensor -> the op that makes it of others; its root, and how it is computed.
        self.places: dict[int, int] = {}
        self._roots: dict[int, int] = {}
        self._sources: dict[int, int] = {}
        self._moves: dict[int, Callable[[], np.ndarray]] = {}
        self._known: dict[int, np.ndarray] = {}

    def follow(self, place: int, op: Any, *, name: str) -> None:
        """Adds what an op gives, if it only moves values of one tensor."""
        move = _MOVES.get(name)
        if move is None:
            return
        inputs = [
            i
            for i in reading.numbers(op.inputs)
            if i >= 0 and self._constant(i) is None and self._is_value(i)
        ]
        roots = {self._roots.get(i, i) for i in inputs}
        outputs = reading.numbers(op.outputs)
        if len(roots) != 1 or any(self._size(i) > _MOST for i in outputs):
            return
        for number, output in enumerate(outputs):
            self.places[output] = place
            self._roots[output] = next(iter(roots))
            self._sources[output] = inputs[0]
            self._moves[output] = _Move(self, move, op, number)

    def ancestors(self, target: int) -> list[int]:
        """Returns what a tensor is made of and that is smaller, the first one first."""
        found = []
        index = target
        while index in self._sources:
            index = self._sources[index]
            found.append(index)
        return [i for i in reversed(found) if self._size(i) < self._size(target)]

    def factors(self, source: int, target: int) -> tuple[int, int] | None:
        """Returns the height and width that a source is upsampled to, None if not."""
        before, after = self._picture(source), self._picture(target)
        if before is None or after is None or before[::3] != after[::3]:
            return None
        ratios = [new // old for old, new in zip(before, after, strict=True)]
        if tuple(o * r for o, r in zip(before, ratios, strict=True)) != after:
            return None
        wanted = self.numbers(source).reshape(before)
        for axis in (1, 2):
            wanted = np.repeat(wanted, ratios[axis], axis)
        is_same = np.array_equal(wanted, self.numbers(target).reshape(after))
        return (after[1], after[2]) if is_same else None

    def numbers(self, index: int) -> np.ndarray:
        """Returns for each value of a tensor the place in its root."""
        if index not in self._known:
            move = self._moves.get(index)
            if move is None:
                size, shape = self._size(index), self.shape(index)
                self._known[index] = np.arange(size, dtype=np.int32).reshape(shape)
            else:
                self._known[index] = move()
        return self._known[index]

    def argument(self, index: int) -> np.ndarray:
        """Returns a constant's value, or the places of a tensor of the chain."""
        constant = self._constant(index)
        return self.numbers(index) if constant is None else constant

    def shape(self, index: int) -> tuple[int, ...]:
        return reading.numbers(self._graph.tensors[index].shape)

    def _picture(self, index: int) -> tuple[int, ...] | None:
        """Returns [batch, height, width, channels]; of a sequence height is 1."""
        shape = self.shape(index)
        if len(shape) == 3:
            return (shape[0], 1, *shape[1:])
        return shape if len(shape) == 4 else None

    def _size(self, index: int) -> int:
        return int(np.prod(self.shape(index), dtype=np.int64))

    def _is_value(self, index: int) -> bool:
        return self._graph.tensors[index].type in _KINDS

    def _constant(self, index: int) -> np.ndarray | None:
        tensor = self._graph.tensors[index]
        data = self._flat.buffers[tensor.buffer].data
        dtype = _DTYPES.get(tensor.type)
        if data is None or dtype is None:
            return None
        size = self._size(index)
        return np.frombuffer(data, dtype)[:size].reshape(self.shape(index))


_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}


@dataclasses.dataclass(frozen=True)
class _Move:
    """What an op does to places, computed when it is asked for."""

    chains: _Chains
    move: Callable[[Any, Sequence[np.ndarray], tuple[int, ...]], Any]
    op: Any
    number: int

    def __call__(self) -> np.ndarray:
        arguments = [self.chains.argument(i) for i in reading.numbers(self.op.inputs)]
        shape = self.chains.shape(reading.numbers(self.op.outputs)[self.number])
        found = self.move(self.op.builtinOptions, arguments, shape)
        parts = found if isinstance(found, list) else [found]
        try:
            return np.asarray(parts[self.number]).reshape(shape)
        except (ValueError, IndexError):  # Not what the file says it is.
            return np.full(shape, -1, np.int32)


def _multiplied(
    options: Any, inputs: Sequence[np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Values times a constant of ones are the values, broadcast."""
    places = [values for values in inputs if values.dtype == np.int32]
    ones = [values for values in inputs if values.dtype == np.float32]
    if len(places) == 1 and ones and (ones[0] == 1.0).all():
        if getattr(options, "fusedActivationFunction", 0) == 0:
            return np.broadcast_to(places[0], shape)
    return np.full(shape, -1, np.int32)


_MOVES: dict[str, Callable[[Any, Sequence[np.ndarray], tuple[int, ...]], Any]] = {
    "RESHAPE": lambda o, x, shape: x[0].reshape(shape),
    "EXPAND_DIMS": lambda o, x, shape: x[0].reshape(shape),
    "SQUEEZE": lambda o, x, shape: x[0].reshape(shape),
    "TILE": lambda o, x, shape: np.tile(x[0], x[1]),
    "BROADCAST_TO": lambda o, x, shape: np.broadcast_to(x[0], shape),
    "TRANSPOSE": lambda o, x, shape: np.transpose(x[0], x[1]),
    "CONCATENATION": lambda o, x, shape: np.concatenate(x, o.axis),
    "PACK": lambda o, x, shape: np.stack(x, o.axis),
    "UNPACK": lambda o, x, shape: list(np.moveaxis(x[0], o.axis, 0)),
    "SPLIT": lambda o, x, shape: np.split(x[1], o.numSplits, int(x[0].flat[0])),
    "GATHER": lambda o, x, shape: np.take(x[0], x[1], o.axis),
    "MUL": _multiplied,
}


def _replace(flat: Any, found: _Upsampling) -> None:
    """Puts RESIZE_NEAREST_NEIGHBOR where the last op of an upsampling stands."""
    graph = flat.subgraphs[0]
    size = _add(flat, found.target, ending=b";size", shape=(2,))
    graph.tensors[size].type = schema.TensorType.INT32
    graph.tensors[size].quantization = None
    graph.tensors[size].buffer = len(flat.buffers)
    values = np.array([found.height, found.width], np.int32)
    flat.buffers.append(schema.BufferT(data=values.view(np.uint8)))
    made = []
    source, target = found.source, found.target
    shape = reading.numbers(graph.tensors[source].shape)
    if len(shape) == 3:
        source = _add(
            flat, found.source, ending=b";picture", shape=(shape[0], 1, *shape[1:])
        )
        made.append(_reshape(flat, found.source, target=source))
        wide = (shape[0], 1, found.width, shape[2])
        target = _add(flat, found.target, ending=b";picture", shape=wide)
    resize = flatbuffer.operator(flat, "RESIZE_NEAREST_NEIGHBOR", source, target)
    resize.inputs = [source, size]
    resize.builtinOptionsType = schema.BuiltinOptions.ResizeNearestNeighborOptions
    resize.builtinOptions = schema.ResizeNearestNeighborOptionsT()
    made.append(resize)
    if target != found.target:
        made.append(_reshape(flat, target, target=found.target))
    graph.operators[found.place : found.place + 1] = made
    _drop_unread(graph)


def _reshape(flat: Any, source: int, *, target: int) -> Any:
    made = flatbuffer.operator(flat, "RESHAPE", source, target)
    made.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    made.builtinOptions = schema.ReshapeOptionsT()
    made.builtinOptions.newShape = list(flat.subgraphs[0].tensors[target].shape)
    return made


def _add(flat: Any, like: int, *, ending: bytes, shape: tuple[int, ...]) -> int:
    tensors = flat.subgraphs[0].tensors
    added = copy.copy(tensors[like])
    added.name = (added.name or b"") + ending
    added.shape, added.shapeSignature, added.buffer = list(shape), None, 0
    tensors.append(added)
    return len(tensors) - 1


def _drop_unread(graph: Any) -> None:
    """Takes out the ops that made what nobody reads any more."""
    while True:
        read = {i for op in graph.operators for i in reading.numbers(op.inputs)}
        read |= set(reading.numbers(graph.outputs))
        kept = [
            op
            for op in graph.operators
            if read.intersection(reading.numbers(op.outputs))
        ]
        if len(kept) == len(graph.operators):
            return
        graph.operators = kept
