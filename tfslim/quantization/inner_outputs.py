"""Outputs of a model that its own ops read, too: features beside an answer.

litert-quantizer (0.11) hands what such an output gives out, float or UINT8, to the ops
that read it, which INT8 kernels refuse; or gives out what one of them reads. So they
are no outputs while it works, and get a border of their own afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim.tflite import flatbuffer

_Type = schema.TensorType
_Code = schema.BuiltinOperator


class InnerOutputs:
    """Takes the inner outputs of a file's main graph away, and puts them back."""

    def __init__(self, flat: Any):
        """Takes them out of `flat`, a `schema.ModelT`, in place."""
        main = flat.subgraphs[0]
        outputs = flatbuffer.numbers(main.outputs)
        read = {i for op in main.operators for i in flatbuffer.numbers(op.inputs)}
        made = {i for op in main.operators for i in flatbuffer.numbers(op.outputs)}
        self._all = outputs
        self._inner = set(outputs) & read & made
        if self._inner == set(outputs):  # A graph without an end is left as it is.
            self._inner = set()
        self._entries: list[list[tuple[bytes, int]]] = []
        if not self._inner:
            return
        main.outputs = [i for i in outputs if i not in self._inner]
        for signature in flat.signatureDefs or []:
            entries = signature.outputs or []
            self._entries.append([(e.name, e.tensorIndex) for e in entries])
            signature.outputs = [e for e in entries if e.tensorIndex not in self._inner]

    def restore(
        self, flat: Any, wanted: int | None, ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        """Puts them back into the quantized file, in place.

        Args:
            flat: the quantized file, whose tensors have their old numbers.
            wanted: the type of all outputs; None for what the ops give.
            ranges: tensor name -> (min, max).
        """
        if not self._inner:
            return
        main = flat.subgraphs[0]
        others = [i for i in self._all if i not in self._inner]
        places = dict(zip(others, flatbuffer.numbers(main.outputs), strict=True))
        for index in sorted(self._inner):
            places[index] = _give_out(flat, index, wanted, ranges)
        main.outputs = [places[i] for i in self._all]
        for signature, entries in zip(flat.signatureDefs, self._entries, strict=True):
            signature.outputs = [
                schema.TensorMapT(name=name, tensorIndex=places[index])
                for name, index in entries
            ]


def _give_out(
    flat: Any, index: int, wanted: int | None, ranges: Mapping[str, tuple[float, float]]
) -> int:
    """Adds the op that makes `wanted` of a tensor; returns the number of its output."""
    main = flat.subgraphs[0]
    tensor = main.tensors[index]
    if wanted in (None, tensor.type):
        return index
    given = schema.TensorT(
        shape=tensor.shape,
        shapeSignature=tensor.shapeSignature,
        type=wanted,
        name=tensor.name + b"_output",
        quantization=None if wanted == _Type.FLOAT32 else _unsigned(tensor, ranges),
    )
    main.tensors.append(given)
    code = _Code.DEQUANTIZE if wanted == _Type.FLOAT32 else _Code.QUANTIZE
    border = schema.OperatorT(
        opcodeIndex=_opcode(flat, code),
        inputs=[index],
        outputs=[len(main.tensors) - 1],
    )
    producer = next(
        place
        for place, op in enumerate(main.operators)
        if index in flatbuffer.numbers(op.outputs)
    )
    main.operators.insert(producer + 1, border)
    return len(main.tensors) - 1


def _unsigned(tensor: Any, ranges: Mapping[str, tuple[float, float]]) -> Any:
    """Returns UINT8 parameters: those of INT8 moved by 128, or those of the range."""
    old = tensor.quantization
    if tensor.type == _Type.INT8:
        scale, zero_point = float(old.scale[0]), int(old.zeroPoint[0]) + 128
    else:
        low, high = ranges[tensor.name.decode()]
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = (high - low) / 255.0 or 1.0
        zero_point = round(-low / scale)
    return schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )


def _opcode(flat: Any, code: int) -> int:
    """Returns the number of an op code, a new one if the file has none."""
    for number, entry in enumerate(flat.operatorCodes):
        if entry.builtinCode == code:
            return number
    flat.operatorCodes.append(
        schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1)
    )
    return len(flat.operatorCodes) - 1
