"""Float detours around INT8 ops that XNNPACK has in float only.

Such an op would cut the delegate's partition in two and run in a slow builtin kernel:
an INT8 HARD_SWISH takes longer than the convolution before it.
"""

from __future__ import annotations

import copy
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfslim import ops
from tfslim.tflite import flatbuffer
from tfslim.tflite import model as tflite_model

FLOAT_ONLY = ops.tflite("float_only")
_INT8 = schema.TensorType.INT8


def add_detours(flat: Any) -> list[str]:
    """Lets INT8 ops of `FLOAT_ONLY` compute in float, between two conversions.

    Args:
        flat: `schema.ModelT`, changed in place.

    Returns:
        The names of the ops that were changed.
    """
    graph = flat.subgraphs[0]
    names = [tflite_model.op_name(code)[0] for code in flat.operatorCodes]
    chosen = [
        op
        for op in graph.operators
        if names[op.opcodeIndex] in FLOAT_ONLY
        and graph.tensors[flatbuffer.numbers(op.outputs)[0]].type == _INT8
    ]
    for op in chosen:
        place = graph.operators.index(op)
        sources = flatbuffer.numbers(op.inputs)
        op.inputs = [_float_twin(graph, index) for index in sources]
        graph.operators[place:place] = [
            _operator(flat, "DEQUANTIZE", source, twin)
            for source, twin in zip(sources, op.inputs, strict=True)
        ]
        (output,) = flatbuffer.numbers(op.outputs)
        last = _only_dequantize(flat, output, names)
        if last is not None:
            # As what it gives is wanted in float, it need not be rounded on the way.
            op.outputs = last.outputs
            graph.operators.remove(last)
            continue
        op.outputs = [_float_twin(graph, output)]
        graph.operators.insert(
            graph.operators.index(op) + 1,
            _operator(flat, "QUANTIZE", op.outputs[0], output),
        )
    return [names[op.opcodeIndex] for op in chosen]


def _only_dequantize(flat: Any, tensor: int, names: list[str]) -> Any:
    """Returns the op that reads a tensor if it is the only one, and a DEQUANTIZE."""
    graph = flat.subgraphs[0]
    readers = [op for op in graph.operators if tensor in flatbuffer.numbers(op.inputs)]
    if len(readers) != 1 or tensor in flatbuffer.numbers(graph.outputs):
        return None
    number = readers[0].opcodeIndex
    is_known = number < len(names) and names[number] == "DEQUANTIZE"
    return readers[0] if is_known else None


def _float_twin(graph: Any, index: int) -> int:
    """Adds a float tensor of the shape of another; returns its number."""
    twin = copy.copy(graph.tensors[index])
    twin.name = twin.name + b";float"
    twin.type, twin.quantization, twin.buffer = schema.TensorType.FLOAT32, None, 0
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _operator(flat: Any, name: str, source: int, target: int) -> Any:
    number = getattr(schema.BuiltinOperator, name)
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in flat.operatorCodes]
    if number not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = number, 2
        code.deprecatedBuiltinCode = number
        flat.operatorCodes.append(code)
        codes.append(number)
    operator = schema.OperatorT()
    operator.opcodeIndex = codes.index(number)
    operator.inputs, operator.outputs = [source], [target]
    return operator
