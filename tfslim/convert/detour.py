"""Float detours around INT8 ops that XNNPACK has in float only.

Such an op would cut the delegate's partition in two and run in a slow builtin kernel:
an INT8 HARD_SWISH takes longer than the convolution before it.
"""

from __future__ import annotations

import copy
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfslim.tflite import flatbuffer
from tfslim.tflite import model as tflite_model

# With ai-edge-litert 2.3; tests/convert/test_detour.py asks the runtime.
FLOAT_ONLY = ("GELU", "HARD_SWISH", "PRELU")
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
    changed: list[str] = []
    operators: list[Any] = []
    for op in graph.operators:
        name = names[op.opcodeIndex]
        output = flatbuffer.numbers(op.outputs)[0]
        if name not in FLOAT_ONLY or graph.tensors[output].type != _INT8:
            operators.append(op)
            continue
        inputs = []
        for index in flatbuffer.numbers(op.inputs):
            inputs.append(_float_twin(graph, index))
            operators.append(
                _operator(flat, "DEQUANTIZE", index, inputs[-1])
            )
        result = _float_twin(graph, output)
        op.inputs, op.outputs = inputs, [result]
        operators += [op, _operator(flat, "QUANTIZE", result, output)]
        changed.append(name)
    graph.operators = operators
    return changed


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
