"""Embedding tables: rows that a GATHER picks, kept small in the file.

litert-quantizer leaves a GATHER in float, and its table is often nearly all of a text
model. EMBEDDING_LOOKUP, which does the same, it knows, with a scale for each row and
in INT4 too. In float16 the rows are picked first and widened then.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import tflite
from tfslim.quantization import backend
from tfslim.quantization.rules import kept_float, recipe
from tfslim.tflite import flatbuffer, reading

_Type = schema.TensorType
_GATHER = "GATHER"


def looked_up(model: bytes) -> bytes:
    """Returns a float file whose tables are read by EMBEDDING_LOOKUP.

    Args:
        model: returned as it is where no GATHER reads rows of a constant matrix.
    """
    known = tflite.read(model).graphs[0]
    found = {op.index for op in known.ops if is_table(op, known)}
    if not found:
        return model
    flat = flatbuffer.unpack(model)
    graph = flat.subgraphs[0]
    made: list[Any] = []
    for index, op in enumerate(graph.operators):
        made += _lookup(flat, op) if index in found else [op]
    graph.operators = made
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(model))


def is_table(op: tflite.Op, graph: tflite.Graph) -> bool:
    """Tells whether an op picks rows of a constant matrix of floats."""
    if op.name != _GATHER:
        return False
    table, rows = (graph.tensors[i] for i in op.inputs)
    axis, batch = (op.options.axis, op.options.batchDims) if op.options else (0, 0)
    return bool(
        (axis, batch) == (0, 0)
        and table.dtype == "float32"
        and table.is_constant
        and len(table.shape) == 2
        and rows.dtype == "int32"
        and not rows.is_dynamic
    )


def _lookup(flat: Any, op: Any) -> list[Any]:
    tensors = flat.subgraphs[0].tensors
    table, rows = reading.numbers(op.inputs)
    (output,) = reading.numbers(op.outputs)
    name = tensors[output].name
    shape = reading.numbers(tensors[output].shape)
    count, width = math.prod(shape[:-1]), shape[-1]
    numbers = _add(flat, name + b";rows", shape=(count,), kind=_Type.INT32)
    found = _add(flat, name + b";lookup", shape=(count, width), kind=_Type.FLOAT32)
    lookup = flatbuffer.operator(flat, "EMBEDDING_LOOKUP", numbers, found)
    lookup.inputs = [numbers, table]
    return [
        _reshape(flat, rows, target=numbers, shape=(count,)),
        lookup,
        _reshape(flat, found, target=output, shape=shape),
    ]


def _reshape(flat: Any, source: int, *, target: int, shape: tuple[int, ...]) -> Any:
    op = flatbuffer.operator(flat, "RESHAPE", source, target)
    sizes = _add(flat, b"shape", shape=(len(shape),), kind=_Type.INT32)
    flat.subgraphs[0].tensors[sizes].buffer = len(flat.buffers)
    data = np.array(shape, np.int32).view(np.uint8)
    flat.buffers.append(schema.BufferT(data=data))
    op.inputs = [source, sizes]
    op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    op.builtinOptions = schema.ReshapeOptionsT(newShape=np.array(shape, np.int32))
    return op


def halve(content: bytes, graph: tflite.Graph, *, rules: backend.Rules) -> bytes:
    """Halves the tables of a float16 file; widens the rows that are picked.

    Args:
        content: litert-quantizer's file.
        graph: of the float file that it was made from.
        rules: in litert-quantizer's order.
    """
    chosen = set()
    for op in graph.ops:
        if is_table(op, graph):
            rule = recipe.deciding(rules, op.name, scope=kept_float.scope(op, graph))
            if rule is not None and rule["algorithm_key"] == "float_casting":
                chosen.add(graph.name_of(op))
    if not chosen:
        return content
    flat = flatbuffer.unpack(content)
    main = flat.subgraphs[0]
    made: list[Any] = []
    for op in main.operators:
        made.append(op)
        kind = reading.op_name(flat.operatorCodes[op.opcodeIndex])[0]
        output = reading.numbers(op.outputs)[0]
        if kind == _GATHER and reading.text(main.tensors[output].name) in chosen:
            made.append(_halved(flat, op, output=output))
    main.operators = made
    flatbuffer.share_buffers(flat)
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(content))


def _halved(flat: Any, op: Any, *, output: int) -> Any:
    """Lets a GATHER pick halves; returns the op that widens what it gives."""
    tensors = flat.subgraphs[0].tensors
    table, rows = reading.numbers(op.inputs)
    values = np.frombuffer(flat.buffers[tensors[table].buffer].data, np.float32)
    shape = reading.numbers(tensors[table].shape)
    small = _add(flat, tensors[table].name + b";half", shape=shape, kind=_Type.FLOAT16)
    tensors[small].buffer = len(flat.buffers)
    halves = values.astype(np.float16).view(np.uint8)
    flat.buffers.append(schema.BufferT(data=halves))
    name = tensors[output].name + b";half"
    picked = _add(
        flat, name, shape=reading.numbers(tensors[output].shape), kind=_Type.FLOAT16
    )
    op.inputs, op.outputs = [small, rows], [picked]
    readers = [o for o in flat.subgraphs[0].operators if table in o.inputs]
    if not readers:
        tensors[table].buffer = 0
    return flatbuffer.operator(flat, "DEQUANTIZE", picked, output, version=3)


def _add(flat: Any, name: bytes, *, shape: tuple[int, ...], kind: int) -> int:
    tensors = flat.subgraphs[0].tensors
    taken = {tensor.name for tensor in tensors}
    if name in taken:
        name += b";%d" % len(tensors)
    tensors.append(
        schema.TensorT(shape=np.array(shape, np.int32), type=kind, name=name, buffer=0)
    )
    return len(tensors) - 1
