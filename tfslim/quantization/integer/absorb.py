"""Writes ops as INT8 into a file in which litert-quantizer has left them float.

The ops' table says what the INT8 kernels want: real inputs and outputs of one scale,
outputs of a scale of their own, or of a fixed one. Inputs come from the other side of
the DEQUANTIZE before the op, constants are quantized, and what the op gives is
dequantized for those that go on reading floats.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops
from tfslim.quantization.integer import parameters as params
from tfslim.quantization.rules import factors
from tfslim.tflite import flatbuffer, reading

_Type = schema.TensorType


def absorb(flat: Any, own: Collection[str], *, ranges: params.Ranges) -> None:
    """Makes INT8 of float ops of the main graph.

    Args:
        flat: the quantized file, a `schema.ModelT`, changed in place.
        own: names of the first outputs of the ops.
        ranges: tensor name -> (min, max) of the activations.
    """
    work = _Absorber(flat, own, ranges=ranges)
    graph = flat.subgraphs[0]
    graph.operators = [new for op in graph.operators for new in work.take(op)]
    work.rename_outputs()


class _Absorber:
    """Goes through the ops in order and remembers what has become of tensors."""

    def __init__(self, flat: Any, own: Collection[str], *, ranges: params.Ranges):
        self._flat = flat
        self._graph = flat.subgraphs[0]
        self._own = {name.encode() for name in own}
        self._ranges = ranges
        # Float tensor -> the INT8 one that holds the same.
        self._integers: dict[int, int] = {}
        # Tensor that has become INT8 -> its float copy.
        self._floats: dict[int, int] = {}

    def take(self, op: Any) -> list[Any]:
        """Returns what an op becomes: itself, or the INT8 one and its borders."""
        inputs = reading.numbers(op.inputs)
        op.inputs = [self._floats.get(i, i) for i in inputs]
        name = reading.op_name(self._flat.operatorCodes[op.opcodeIndex])[0]
        outputs = reading.numbers(op.outputs)
        if name == "DEQUANTIZE" and self._tensor(inputs[0]).type == _Type.INT8:
            self._integers[outputs[0]] = inputs[0]
        if not outputs or self._tensor(outputs[0]).name not in self._own:
            return [op]
        return self._integer(op, name) if self._is_float(op) else [op]

    def rename_outputs(self) -> None:
        """Lets the model's outputs stay floats."""
        self._graph.outputs = [
            self._floats.get(i, i) for i in reading.numbers(self._graph.outputs)
        ]
        for signature in self._flat.signatureDefs or []:
            if not signature.subgraphIndex:
                for entry in signature.outputs or []:
                    index = entry.tensorIndex
                    entry.tensorIndex = self._floats.get(index, index)

    def _tensor(self, index: int) -> Any:
        return self._graph.tensors[index]

    def _name(self, index: int) -> str:
        return reading.text(self._tensor(index).name)

    def _reals(self, indices: Sequence[int]) -> list[int]:
        return [i for i in indices if i >= 0 and self._tensor(i).type == _Type.FLOAT32]

    def _is_float(self, op: Any) -> bool:
        indices = (*reading.numbers(op.inputs), *reading.numbers(op.outputs))
        return bool(self._reals(indices))

    def _integer(self, op: Any, name: str) -> list[Any]:
        before: list[Any] = []
        after: list[Any] = []
        rule: Any = ops.TFLITE[name].integer
        inputs = list(reading.numbers(op.inputs))
        shared = self._shared(op) if rule == "same" else None
        wanted = dict.fromkeys(sorted(self._reals(inputs)), shared)
        if name == "BATCH_MATMUL":
            wanted[inputs[1]] = self._symmetric(inputs[1])
        made = {i: self._as_integer(i, own, before=before) for i, own in wanted.items()}
        op.inputs = [made.get(i, i) for i in inputs]
        for index in self._reals(reading.numbers(op.outputs)):
            if isinstance(rule, tuple):
                own = params.make(*rule)
            else:
                own = shared or self._calibrated(index)
            after.append(self._give(index, own))
        return [*before, op, *after]

    def _give(self, index: int, own: Any) -> Any:
        """Makes a tensor INT8; returns the op that makes floats of it again."""
        tensor = self._tensor(index)
        number = self._add(tensor, b";float", _Type.FLOAT32, None)
        tensor.type, tensor.quantization = _Type.INT8, own
        self._integers[number], self._floats[index] = index, number
        return flatbuffer.operator(self._flat, "DEQUANTIZE", index, number, version=2)

    def _add(self, like: Any, ending: bytes, kind: int, own: Any) -> int:
        added = copy.copy(like)
        number = len(self._graph.tensors)
        added.name = like.name + ending + b"%d" % number
        added.type, added.quantization, added.buffer = kind, own, 0
        self._graph.tensors.append(added)
        return number

    def _constant(self, index: int) -> np.ndarray | None:
        tensor = self._tensor(index)
        data = self._flat.buffers[tensor.buffer].data
        if data is None:
            return None
        shape = reading.numbers(tensor.shape)
        return np.frombuffer(data, np.float32)[: int(np.prod(shape))].reshape(shape)

    def _calibrated(self, index: int) -> Any:
        return params.of_range(*self._ranges[self._name(index)])

    def _symmetric(self, index: int) -> Any:
        """Returns parameters without zero point, see `rules.factors`."""
        values = self._constant(index)
        ends: Any = values
        if index in self._integers:
            ends = params.bounds(self._tensor(self._integers[index]).quantization)
        elif values is None:
            ends = self._ranges[self._name(index)]
        return params.of_range(*factors.around_zero(float(np.abs(ends).max())))

    def _as_integer(self, index: int, wanted: Any, *, before: list[Any]) -> int:
        """Returns the INT8 tensor for a float one; appends the ops that make it."""
        values = self._constant(index)
        if values is not None:
            own = wanted or params.of_range(
                values.min(initial=0.0), values.max(initial=0.0)
            )
            number = self._add(self._tensor(index), b";int8", _Type.INT8, own)
            data = params.integers(values, own).reshape(-1).view(np.uint8)
            self._tensor(number).buffer = len(self._flat.buffers)
            self._flat.buffers.append(schema.BufferT(data=data))
            return number
        source = self._integers.get(index)
        if source is not None:
            found = self._tensor(source).quantization
            if wanted is None or params.is_same(found, wanted):
                return source
        own = wanted or self._calibrated(index)
        number = self._add(self._tensor(index), b";int8", _Type.INT8, own)
        place = index if source is None else source
        before.append(
            flatbuffer.operator(self._flat, "QUANTIZE", place, number, version=2)
        )
        return number

    def _shared(self, op: Any) -> Any:
        """Chooses the one scale of an op: that of its input, where it holds all."""
        reals = self._reals(reading.numbers(op.inputs))
        constants = [v for i in reals if (v := self._constant(i)) is not None]
        known = [
            self._tensor(self._integers[i]).quantization
            if i in self._integers
            else self._calibrated(i)
            for i in reals
            if self._constant(i) is None
        ]
        if known and all(params.is_same(known[0], other) for other in known[1:]):
            low, high = params.bounds(known[0])
            slack = float(known[0].scale[0]) / 2
            if all(
                low - slack <= v.min() and v.max() <= high + slack for v in constants
            ):
                return known[0]
        outputs = self._reals(reading.numbers(op.outputs))
        if outputs:
            return self._calibrated(outputs[0])
        spans = [params.bounds(one) for one in known]
        spans += [(float(v.min()), float(v.max())) for v in constants]
        return params.of_range(min(s[0] for s in spans), max(s[1] for s in spans))
