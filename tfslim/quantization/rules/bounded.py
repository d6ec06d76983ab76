"""Constants beyond all values, for targets without float: masks and idle limits.

An attention mask adds -1e9 where a softmax is to see nothing, and takes all levels of
INT8. A few times less than the least value hides as well: exp(-10) is below what INT8
tells from 0. A limit that no value reaches limits nothing, and is left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops, targets, tflite
from tfslim.quantization.rules.kept_float import MASKING
from tfslim.tflite import flatbuffer, reading

Ranges = dict[str, tuple[float, float]]

_SELECTS = ("SELECT", "SELECT_V2")
_SUMS = ("ADD", "SUB")
_LIMITS = ("MINIMUM", "MAXIMUM")
_PICKING = ops.tflite("picking")
# Ops that hand values on, to another place.
_MOVES = ops.tflite("reshaping", "transposing")
# A hidden value is one of at most so many, whose sum is half a level of INT8.
_LEVELS = 512.0


def bounded(
    model: bytes, ranges: Mapping[str, tuple[float, float]], *, target: targets.Target
) -> tuple[bytes, Ranges]:
    """Makes masks small, and leaves out minima and maxima that change nothing.

    Args:
        model: the float `.tflite`; returned as it is where there is nothing to do.
        ranges: tensor name -> (min, max) of its activations.
        target: where it is to run; only one without float needs this.

    Returns:
        The file, and the ranges of all its activations.
    """
    found = dict(ranges)
    graph = tflite.read(model).graphs[0]
    if target.allows_float or not any(_interests(op, graph) for op in graph.ops):
        return model, found
    flat = flatbuffer.unpack(model)
    work = _Bounds(flat, graph, found)
    for op in graph.ops:
        work.hide(op)
    work.drop_limits()
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(model)), found


def _interests(op: tflite.Op, graph: tflite.Graph) -> bool:
    is_masking = op.name in (*_SELECTS, *_SUMS, "MUL") and bool(_masks(op, graph))
    return is_masking or op.name in _LIMITS


def _masks(op: tflite.Op, graph: tflite.Graph) -> list[int]:
    """Returns the places of an op's constants that hold what a mask adds."""
    found = []
    for place, index in enumerate(op.inputs):
        values = graph.constant(index) if index >= 0 else None
        if values is not None and values.dtype == np.float32 and values.size:
            with np.errstate(invalid="ignore"):
                if not (np.abs(values) < MASKING).all():
                    found.append(place)
    return found


@dataclasses.dataclass
class _Bounds:
    flat: Any
    graph: tflite.Graph
    ranges: Ranges

    def hide(self, op: tflite.Op) -> None:
        """Makes the mask in an op's constants as small as it may be."""
        places = _masks(op, self.graph)
        if len(places) != 1:
            return
        others = [i for place, i in enumerate(op.inputs) if place != places[0]]
        if op.name in _SELECTS and places[0]:
            low, high = self._range(others[-1])
            self._select(op, places[0], ends=(low, high))
        elif op.name in _SUMS and self._hides(op):
            low, high = self._range(others[0])
            reach = self._reach(op)
            size = high - low + reach
            self._replace(op, places[0], below=-size, above=size)
            # Less is clipped to the least level.
            self._set(op.outputs[0], (low - reach, high))
        elif op.name == "MUL":
            self._product(op, places[0], other=others[0])

    def _select(self, op: tflite.Op, place: int, *, ends: tuple[float, float]) -> None:
        (low, high), reach = ends, self._reach(op)
        if -low >= MASKING or not self._hides(op):
            return
        self._replace(op, place, below=low - reach, above=high + reach)
        self._set(op.outputs[0], (low - reach, high))

    def _product(self, op: tflite.Op, place: int, *, other: int) -> None:
        """Makes a mask smaller that a factor of 0 to 1, or -1, is made of."""
        sums = list(self._sums(op.outputs[0]))
        most = max(map(abs, self._range(other)))
        if not sums or not most or not all(self._hides(each) for each, _ in sums):
            return
        spans = [(*self._range(values), self._reach(each)) for each, values in sums]
        if any(-low >= MASKING for low, _, _ in spans):
            return
        size = max(high - low + reach for low, high, reach in spans)
        self._replace(op, place, below=-size / most, above=size / most)
        self._set(op.outputs[0], (-size, 0.0))
        for (each, _), (low, high, reach) in zip(sums, spans, strict=True):
            self._set(each.outputs[0], (low - reach, high))

    def _sums(self, index: int) -> Iterator[tuple[tflite.Op, int]]:
        """Yields the sums that a tensor goes into, each with its other input."""
        for op in self.graph.consumers.get(index, []):
            if op.name in _SUMS:
                one, other = op.inputs
                yield op, other if one == index else one
            elif op.name in _MOVES:
                yield from self._sums(op.outputs[0])

    def _hides(self, op: tflite.Op) -> bool:
        """Whether all that reads what an op gives picks the greatest value."""
        readers = self._readers(op.outputs[0])
        return bool(readers) and all(each.name in _PICKING for each in readers)

    def _readers(self, index: int) -> list[tflite.Op]:
        found = []
        for op in self.graph.consumers.get(index, []):
            moves = op.name in _MOVES
            found += self._readers(op.outputs[0]) if moves else [op]
        return found

    def _reach(self, op: tflite.Op) -> float:
        """Returns how far below the least value nothing is left for a softmax."""
        shape = self.graph.tensors[op.outputs[0]].shape
        return math.log(_LEVELS * max(shape[-1:], default=1))

    def _range(self, index: int) -> tuple[float, float]:
        """Returns the values of an activation, or of a constant."""
        values = self.graph.constant(index)
        if values is not None:
            return float(values.min()), float(values.max())
        return self.ranges.get(self.graph.tensors[index].name, (0.0, 0.0))

    def _set(self, index: int, bounds: tuple[float, float]) -> None:
        """Sets the range of a tensor, and of those that it is moved to."""
        self.ranges[self.graph.tensors[index].name] = bounds
        for op in self.graph.consumers.get(index, []):
            if op.name in _MOVES:
                self._set(op.outputs[0], bounds)

    def _replace(
        self, op: tflite.Op, place: int, *, below: float, above: float
    ) -> None:
        """Gives an op a constant of its own with other values for a mask."""
        values: Any = self.graph.constant(op.inputs[place])
        own = np.where(values >= MASKING, above, values)
        own = np.where(values <= -MASKING, below, own)
        inner = self.flat.subgraphs[0]
        number = len(inner.tensors)
        inner.tensors.append(
            schema.TensorT(
                shape=list(values.shape),
                type=schema.TensorType.FLOAT32,
                buffer=len(self.flat.buffers),
                name=b"mask%d" % number,
            )
        )
        data = own.astype(np.float32).reshape(-1).view(np.uint8)
        self.flat.buffers.append(schema.BufferT(data=data))
        inputs = list(reading.numbers(inner.operators[op.index].inputs))
        inputs[place] = number
        inner.operators[op.index].inputs = inputs

    def drop_limits(self) -> None:
        """Leaves out minima and maxima by constants that no value reaches."""
        inner = self.flat.subgraphs[0]
        ends = set(reading.numbers(inner.outputs))
        same: dict[int, int] = {}
        kept = []
        for op, written in zip(self.graph.ops, inner.operators, strict=True):
            written.inputs = [same.get(i, i) for i in reading.numbers(written.inputs)]
            source = self._unlimited(op)
            if source is None or op.outputs[0] in ends:
                kept.append(written)
            else:
                same[op.outputs[0]] = same.get(source, source)
        inner.operators = kept

    def _unlimited(self, op: tflite.Op) -> int | None:
        """Returns the input that a minimum or maximum gives as it is, if it does."""
        constants = [self.graph.constant(i) for i in op.inputs]
        if op.name not in _LIMITS or sum(c is not None for c in constants) != 1:
            return None
        (place,) = (p for p, c in enumerate(constants) if c is not None)
        limit: Any = constants[place]
        name = self.graph.tensors[op.inputs[1 - place]].name
        if limit.size != 1 or name not in self.ranges:
            return None
        low, high = self.ranges[name]
        is_idle = high <= limit.item() if op.name == "MINIMUM" else low >= limit.item()
        return op.inputs[1 - place] if is_idle else None
