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
        op.inputs = [_float_copy(graph, index) for index in sources]
        graph.operators[place:place] = [
            flatbuffer.operator(flat, "DEQUANTIZE", source, target, version=2)
            for source, target in zip(sources, op.inputs, strict=True)
        ]
        (output,) = flatbuffer.numbers(op.outputs)
        last = _only_dequantize(flat, output, names=names)
        if last is not None:
            # As what it gives is wanted in float, it need not be rounded on the way.
            op.outputs = last.outputs
            graph.operators.remove(last)
            continue
        op.outputs = [_float_copy(graph, output)]
        graph.operators.insert(
            graph.operators.index(op) + 1,
            flatbuffer.operator(flat, "QUANTIZE", op.outputs[0], output, version=2),
        )
    return [names[op.opcodeIndex] for op in chosen]


def _only_dequantize(flat: Any, tensor: int, *, names: list[str]) -> Any:
    """Returns the op that reads a tensor if it is the only one, and a DEQUANTIZE."""
    graph = flat.subgraphs[0]
    readers = [op for op in graph.operators if tensor in flatbuffer.numbers(op.inputs)]
    if len(readers) != 1 or tensor in flatbuffer.numbers(graph.outputs):
        return None
    number = readers[0].opcodeIndex
    is_known = number < len(names) and names[number] == "DEQUANTIZE"
    return readers[0] if is_known else None


def _float_copy(graph: Any, index: int) -> int:
    """Adds a float tensor of the shape of another; returns its number."""
    copied = copy.copy(graph.tensors[index])
    copied.name = copied.name + b";float"
    copied.type, copied.quantization, copied.buffer = schema.TensorType.FLOAT32, None, 0
    graph.tensors.append(copied)
    return len(graph.tensors) - 1
