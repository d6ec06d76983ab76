"""Fused recurrent ops in a quantized file: litert-quantizer leaves them in float.

UNIDIRECTIONAL_SEQUENCE_LSTM becomes LiteRT's integer LSTM: INT8 input, weights and
output, an INT16 cell state whose scale is a power of two, INT32 biases of the scale
input_scale * weight_scale. Where there is no integer kernel, and by recipes without
ranges, the weights alone become INT8, which the kernel multiplies with activations
that it quantizes on the fly; or float16.
Source: LiteRT's 8-bit quantization specification,
https://ai.google.dev/edge/litert/models/quantization_spec, and the kernel's
`PopulateQuantizedLstmParams8x8_8`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops, tflite
from tfslim.quantization import backend
from tfslim.quantization.rules import kept_float, recipe
from tfslim.tflite import flatbuffer, reading

Ranges = Mapping[str, tuple[float, float]]

_Type = schema.TensorType
OPS = ops.tflite("recurrent")
_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
# Places among the inputs: kernels of the input and of the state, and biases, of the
# input, forget, cell and output gate; the states.
_KERNELS = {_LSTM: range(1, 9), "UNIDIRECTIONAL_SEQUENCE_RNN": range(1, 3)}
_STATES = {_LSTM: (18, 19), "UNIDIRECTIONAL_SEQUENCE_RNN": (4,)}
_GATES, _FIRST_BIAS = 4, 12
# What the integer kernel is not tried with: peepholes, projections, layer norms.
_LEFT_OUT = (9, 10, 11, 16, 17, 20, 21, 22, 23)
# Elements of a constant from which on it outweighs the op and the tensor before it.
_WORTH = 256
SMALL = "Kernels of less than 256 numbers stay: an op to widen each would be larger."
# The kernel's least exponent of the cell state's scale.
_LARGEST_CELL = 2.0**6


def reason(op: tflite.Op, graph: tflite.Graph, *, ranges: Ranges) -> str:
    """Says why an op has no integer kernel, "" where it has one."""
    if op.name != _LSTM:
        return f"LiteRT has no integer {op.name}: its weights alone are INT8."
    if any(i < len(op.inputs) and op.inputs[i] >= 0 for i in _LEFT_OUT) or any(
        i < 0 for i in op.inputs[1:9]
    ):
        return "LiteRT has no integer kernel for this kind of LSTM."
    if op.options.fusedActivationFunction != schema.ActivationFunctionType.TANH:
        return "LiteRT's integer LSTM has tanh only: its weights alone are INT8."
    hidden, cell = (op.inputs[i] for i in _STATES[_LSTM])
    users = {u.index for i in (hidden, cell) for u in graph.consumers.get(i, [])}
    writers = [graph.producers[i] for i in (hidden, cell) if i in graph.producers]
    if users != {op.index} or any(
        not graph.tensors[i].is_constant for w in writers for i in w.inputs
    ):
        return "Its state is given or read by other ops: its weights alone are INT8."
    if _largest(graph.tensors[cell], ranges) > _LARGEST_CELL:
        return "Its cell state grows beyond 64, more than LiteRT's integer LSTM holds."
    return ""


def finish(
    content: bytes, graph: tflite.Graph, *, ranges: Ranges, rules: backend.Rules
) -> bytes:
    """Quantizes the recurrent ops of a file that is quantized otherwise.

    Args:
        content: litert-quantizer's file.
        graph: of the float file that it was made from.
        ranges: tensor name -> (min, max) of the activations, for static rules.
        rules: in litert-quantizer's order; each op takes the one that decides.
    """
    wanted = {}
    for op in graph.ops:
        if op.name in OPS:
            rule = recipe.deciding(rules, op.name, scope=kept_float.scope(op, graph))
            if rule is not None:
                wanted[graph.name_of(op)] = (op, rule)
    if not wanted:
        return content
    flat = flatbuffer.unpack(content)
    editor = _Editor(flat, ranges)
    for op in list(flat.subgraphs[0].operators):
        name = reading.text(editor.tensor(op.outputs[0]).name)
        name = name if editor.kind(op) in OPS else ""
        if name in wanted:
            source, rule = wanted[name]
            editor.apply(op, source.name, rule, reason(source, graph, ranges=ranges))
    editor.sweep()
    flatbuffer.drop_tensors(flat)
    flatbuffer.share_buffers(flat)
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))


def _largest(tensor: tflite.Tensor, ranges: Ranges) -> float:
    low, high = ranges.get(tensor.name, (0.0, 0.0))
    return max(-float(low), float(high))


class _Editor:
    """Changes the main graph of a file, op by op."""

    def __init__(self, flat: Any, ranges: Ranges):
        self._flat = flat
        self._graph = flat.subgraphs[0]
        self._ranges = ranges

    def tensor(self, index: int) -> Any:
        return self._graph.tensors[index]

    def kind(self, op: Any) -> str:
        return reading.op_name(self._flat.operatorCodes[op.opcodeIndex])[0]

    def apply(self, op: Any, name: str, rule: Mapping[str, Any], why_not: str) -> None:
        op.inputs = list(reading.numbers(op.inputs))
        config = rule.get("op_config", {})
        activations = config.get("activation_tensor_config") or {}
        kernels = [i for i in _KERNELS[name] if op.inputs[i] >= 0]
        if activations.get("num_bits") == 8 and not why_not:
            self._make_integer(op)
        elif rule["algorithm_key"] == "float_casting":
            for place in self._large(op, kernels):
                self._widen(op, place, self._halves(op.inputs[place]))
        elif config.get("compute_precision") == "INTEGER":
            for place in kernels:
                op.inputs[place] = self._integers(op.inputs[place])
        else:
            for place in self._large(op, kernels):
                self._widen(op, place, self._integers(op.inputs[place]))

    def _large(self, op: Any, places: list[int]) -> list[int]:
        """Returns the places of constants that are worth an op to unpack them."""
        return [i for i in places if self._values(op.inputs[i]).size >= _WORTH]

    def _make_integer(self, op: Any) -> None:
        source = self._integer_source(op)
        source_scale = float(self.tensor(source).quantization.scale[0])
        op.inputs[0] = source
        for place in _KERNELS[_LSTM]:
            op.inputs[place] = self._integers(op.inputs[place])
        for gate in range(_GATES):
            kernel = self.tensor(op.inputs[1 + gate]).quantization.scale[0]
            place = _FIRST_BIAS + gate
            op.inputs[place] = self._bias(op.inputs[place], source_scale * kernel)
        output = reading.numbers(op.outputs)[0]
        given = _asymmetric(*self._ranges[reading.text(self.tensor(output).name)])
        hidden, cell = (op.inputs[i] for i in _STATES[_LSTM])
        largest = max(map(abs, self._ranges[reading.text(self.tensor(cell).name)]))
        # A power of two; the kernel's tanh has no table for less than 2**-15.
        exponent = math.ceil(math.log2(max(largest, 1.0)))
        self._set_state(hidden, _Type.INT8, parameters=given)
        self._set_state(
            cell, _Type.INT16, parameters=_parameters(2.0 ** (exponent - 15), 0)
        )
        op.intermediates = [
            self._add("intermediate", [0], *kind)
            for kind in [(_Type.FLOAT32, None)] * _GATES + [(_Type.INT8, given)]
        ]
        self._give(op, output, given)

    def _integer_source(self, op: Any) -> int:
        """Returns the INT8 tensor behind the op's float input, or a new one."""
        index = op.inputs[0]
        for writer in self._graph.operators:
            if index in reading.numbers(writer.outputs):
                (before, *_) = reading.numbers(writer.inputs)
                if (
                    self.kind(writer) == "DEQUANTIZE"
                    and self.tensor(before).type == _Type.INT8
                ):
                    return int(before)
        tensor = self.tensor(index)
        parameters = _asymmetric(*self._ranges[reading.text(tensor.name)])
        made = self._add("quantized", tensor.shape, _Type.INT8, parameters)
        self._insert(op, flatbuffer.operator(self._flat, "QUANTIZE", index, made))
        return made

    def _give(self, op: Any, output: int, parameters: Any) -> None:
        """Lets the op give INT8, and its readers a float of it or INT8 as they had."""
        tensor = self.tensor(output)
        made = self._add("quantized", tensor.shape, _Type.INT8, parameters)
        if output not in reading.numbers(self._graph.outputs):
            new = self.tensor(made)  # By the name the layer is known.
            new.name, tensor.name = tensor.name, new.name
        op.outputs = [made]
        border = flatbuffer.operator(self._flat, "DEQUANTIZE", made, output, version=2)
        place = self._graph.operators.index(op) + 1
        for reader in self._graph.operators[place:]:
            inputs = list(reading.numbers(reader.inputs))
            # From INT8 to INT8, without the float between.
            if self.kind(reader) == "QUANTIZE" and inputs == [output]:
                reader.inputs = [made]
        self._graph.operators.insert(place, border)

    def sweep(self) -> None:
        """Takes out borders that nothing reads, and those between equal tensors."""
        same: dict[int, int] = {}
        outputs = set(reading.numbers(self._graph.outputs))
        kept = []
        for op in self._graph.operators:
            op.inputs = [same.get(i, i) for i in reading.numbers(op.inputs)]
            if self.kind(op) == "QUANTIZE":
                source, target = (self.tensor(i) for i in (op.inputs[0], op.outputs[0]))
                if op.outputs[0] not in outputs and _is_same(source, target):
                    same[int(op.outputs[0])] = op.inputs[0]
                    continue
            kept.append(op)
        while True:
            read = {i for op in kept for i in op.inputs} | outputs
            left = [
                op
                for op in kept
                if self.kind(op) not in ("QUANTIZE", "DEQUANTIZE")
                or read.intersection(reading.numbers(op.outputs))
            ]
            if len(left) == len(kept):
                break
            kept = left
        self._graph.operators = kept

    def _set_state(self, index: int, kind: int, *, parameters: Any) -> None:
        """Makes integers of a state, and of the constant that it begins with."""
        tensor = self.tensor(index)
        tensor.type, tensor.quantization = kind, parameters
        for writer in self._graph.operators:
            if index in reading.numbers(writer.outputs):
                writer.inputs = [
                    self._begun(i, kind, parameters=parameters)
                    for i in reading.numbers(writer.inputs)
                ]

    def _begun(self, index: int, kind: int, *, parameters: Any) -> int:
        limits = np.iinfo(np.int8 if kind == _Type.INT8 else np.int16)
        steps = np.rint(self._values(index) / parameters.scale[0])
        steps = np.clip(steps + parameters.zeroPoint[0], limits.min, limits.max)
        return self._constant(index, steps.astype(limits.dtype), kind, parameters)

    def _values(self, index: int) -> np.ndarray:
        tensor = self.tensor(index)
        data = self._flat.buffers[tensor.buffer].data
        shape = reading.numbers(tensor.shape)
        return np.frombuffer(data, np.float32).reshape(shape)

    def _integers(self, index: int) -> int:
        values = self._values(index)
        scale = float(np.abs(values).max(initial=0.0)) / 127 or 1.0
        steps = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
        return self._constant(index, steps, _Type.INT8, _parameters(scale, 0))

    def _bias(self, index: int, scale: float) -> int:
        limits = np.iinfo(np.int32)
        steps = np.rint(self._values(index).astype(np.float64) / scale)
        steps = np.clip(steps, limits.min, limits.max).astype(np.int32)
        return self._constant(index, steps, _Type.INT32, _parameters(scale, 0))

    def _halves(self, index: int) -> int:
        halves = self._values(index).astype(np.float16)
        return self._constant(index, halves, _Type.FLOAT16, None)

    def _widen(self, op: Any, place: int, stored: int) -> None:
        made = self._add("dequantized", self.tensor(stored).shape, _Type.FLOAT32, None)
        border = flatbuffer.operator(self._flat, "DEQUANTIZE", stored, made, version=3)
        self._insert(op, border)
        op.inputs[place] = made

    def _insert(self, op: Any, before: Any) -> None:
        self._graph.operators.insert(self._graph.operators.index(op), before)

    def _constant(
        self, like: int, values: np.ndarray, kind: int, parameters: Any
    ) -> int:
        name = reading.text(self.tensor(like).name)
        made = self._add(name, values.shape, kind, parameters)
        self.tensor(made).buffer = len(self._flat.buffers)
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._flat.buffers.append(schema.BufferT(data=data))
        return made

    def _add(self, name: str, shape: Any, kind: int, parameters: Any) -> int:
        number = len(self._graph.tensors)
        self._graph.tensors.append(
            schema.TensorT(
                shape=np.array(shape, np.int32),
                type=kind,
                name=f"{name};recurrent{number}".encode(),
                buffer=0,
                quantization=parameters,
            )
        )
        return number


def _parameters(scale: float, zero_point: int) -> Any:
    return schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )


def _asymmetric(low: float, high: float) -> Any:
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = (high - low) / 255 or 1.0
    return _parameters(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def _is_same(one: Any, other: Any) -> bool:
    """Tells whether the integers of two tensors mean the same."""
    first, second = one.quantization, other.quantization
    if one.type != other.type or first is None or second is None:
        return False
    if not (np.size(first.scale) == np.size(second.scale) == 1):
        return False
    return bool(
        np.isclose(first.scale[0], second.scale[0], rtol=1e-5)
        and first.zeroPoint[0] == second.zeroPoint[0]
    )
