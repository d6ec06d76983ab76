"""What litert-quantizer (0.11) leaves undone at the outputs of a model.

An output that the model's own ops read, too (features beside an answer), it hands out
as float or UINT8 to these ops, which INT8 kernels refuse; or it gives out what one of
them reads. So such inner outputs are none while it works, and get a border of their own
afterwards. Signatures and open sizes it carries over in part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import tflite
from tfslim.tflite import flatbuffer

_Type = schema.TensorType
_Code = schema.BuiltinOperator
# Types of values that stand for reals; others, such as class numbers, stay as they are.
_REALS = (_Type.FLOAT32, _Type.INT8, _Type.UINT8, _Type.INT16)

Bounds = Mapping[str, tuple[float, float]]


class Outputs:
    """Takes the inner outputs of a file's main graph away, and puts all in order."""

    def __init__(self, flat: Any):
        """Takes the inner ones out of `flat`, a `schema.ModelT`, in place."""
        main = flat.subgraphs[0]
        self._all = flatbuffer.numbers(main.outputs)
        read = {i for op in main.operators for i in flatbuffer.numbers(op.inputs)}
        made = {i for op in main.operators for i in flatbuffer.numbers(op.outputs)}
        self._inner = set(self._all) & read & made
        if self._inner == set(self._all):  # A graph without an end is left as it is.
            self._inner = set()
        self._open = {i: main.tensors[i].shapeSignature for i in self._all}
        self._entries: list[list[tuple[bytes, int]]] = []
        main.outputs = [i for i in self._all if i not in self._inner]
        for signature in _signatures(flat):
            entries = signature.outputs or []
            self._entries.append([(e.name, e.tensorIndex) for e in entries])
            signature.outputs = [e for e in entries if e.tensorIndex not in self._inner]

    def restore(self, flat: Any, wanted: int | None, ranges: Bounds) -> None:
        """Puts all outputs into the quantized file, in place.

        Args:
            flat: the quantized file, whose tensors have their old numbers.
            wanted: the type of all outputs; None for what the ops give.
            ranges: tensor name -> (min, max).
        """
        main = flat.subgraphs[0]
        others = [i for i in self._all if i not in self._inner]
        places = dict(zip(others, flatbuffer.numbers(main.outputs), strict=True))
        for index in sorted(self._inner):
            places[index] = _give_out(flat, index, wanted=wanted, ranges=ranges)
        main.outputs = [places[i] for i in self._all]
        for index, place in places.items():
            if main.tensors[place].shapeSignature is None:
                main.tensors[place].shapeSignature = self._open[index]
        for signature, entries in zip(_signatures(flat), self._entries, strict=True):
            signature.outputs = [
                schema.TensorMapT(name=name, tensorIndex=places.get(index, index))
                for name, index in entries
            ]


# Stands between the name of an output and a number, where its conversion has the name.
_BEHIND = b";integer"


def before_conversion(name: str) -> str:
    """Returns the float file's name of what a quantized file converts at its end."""
    return re.sub(rf"{_BEHIND.decode()}\d+$", "", name)


def keep_names(content: bytes, graph: tflite.Graph) -> bytes:
    """Gives inputs and outputs the names that they have in the float file.

    litert-quantizer leaves the name to what the op gives and calls the output by
    another, "logits_dequant", by which no app would find it.

    Args:
        content: the quantized file.
        graph: the float file's, with inputs and outputs in the same order.
    """
    flat = flatbuffer.unpack(content)
    main = flat.subgraphs[0]
    wanted: dict[int, bytes] = {}
    for new, old in ((main.inputs, graph.inputs), (main.outputs, graph.outputs)):
        for index, tensor in zip(flatbuffer.numbers(new), old, strict=True):
            wanted.setdefault(index, tensor.name.encode())
    changed = {i: name for i, name in wanted.items() if main.tensors[i].name != name}
    if not changed:
        return content
    taken = set(changed.values())
    for index, tensor in enumerate(main.tensors):
        if tensor.name in taken and index not in wanted:
            tensor.name = b"%s%s%d" % (tensor.name, _BEHIND, index)
    for index, name in changed.items():
        main.tensors[index].name = name
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))


def _signatures(flat: Any) -> list[Any]:
    """Returns the ways to call the main graph."""
    return [s for s in flat.signatureDefs or [] if not s.subgraphIndex]


def _give_out(flat: Any, index: int, *, wanted: int | None, ranges: Bounds) -> int:
    """Adds the op that makes `wanted` of a tensor; returns the number of its output."""
    main = flat.subgraphs[0]
    tensor = main.tensors[index]
    if wanted in (None, tensor.type) or tensor.type not in _REALS:
        return index
    is_float = wanted == _Type.FLOAT32
    given = schema.TensorT(
        shape=tensor.shape,
        shapeSignature=tensor.shapeSignature,
        type=wanted,
        name=tensor.name + b"_output",
        quantization=None if is_float else _parameters(tensor, wanted, ranges=ranges),
    )
    main.tensors.append(given)
    border = schema.OperatorT(
        opcodeIndex=_opcode(flat, _Code.DEQUANTIZE if is_float else _Code.QUANTIZE),
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


def _parameters(tensor: Any, wanted: int, *, ranges: Bounds) -> Any:
    """Returns scale and zero point: INT8's own moved to UINT8, or by the range."""
    old = tensor.quantization
    if (tensor.type, wanted) == (_Type.INT8, _Type.UINT8):
        scale, zero_point = float(old.scale[0]), int(old.zeroPoint[0]) + 128
    else:
        low, high = ranges[tensor.name.decode()]
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if wanted == _Type.INT16:  # Symmetric.
            scale, zero_point = max(-low, high) / (2**15 - 1), 0
        else:
            scale = (high - low) / (2**8 - 1) or 1.0
            least = 0 if wanted == _Type.UINT8 else -128
            zero_point = round(least - low / scale)
    return schema.QuantizationParametersT(
        scale=np.array([scale or 1.0], np.float32),
        zeroPoint=np.array([zero_point], np.int64),
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
