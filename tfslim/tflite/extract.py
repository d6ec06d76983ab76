"""Cutting one op out of a `.tflite`, to run or time it alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors
from tfslim.tflite import flatbuffer, reading, sparse

_HALF, _FLOAT = schema.TensorType.FLOAT16, schema.TensorType.FLOAT32
_UNPACKED = {_HALF: np.float16, _FLOAT: np.float32, schema.TensorType.INT8: np.int8}


def single_op(tflite: bytes, op_index: int, *, graph: int = 0) -> bytes:
    """Makes a `.tflite` of one op: its constants inside, the rest as inputs.

    Args:
        tflite: the file to cut from.
        op_index: the op's place in the order of execution.
        graph: the op's subgraph.

    Returns:
        A file whose inputs are the op's non-constant inputs and whose outputs are its
        outputs, all with the same names, shapes and quantization, and no signature.
        What a DENSIFY, or a DEQUANTIZE of half precision, makes of a constant is
        constant there, too.

    Raises:
        ConfigError: there is no such op, or it calls other graphs.
    """
    source = flatbuffer.unpack(tflite)
    if not 0 <= graph < len(source.subgraphs):
        raise errors.ConfigError(
            f"There is no graph {graph}: the file has {len(source.subgraphs)}."
        )
    operators = source.subgraphs[graph].operators or []
    if not 0 <= op_index < len(operators):
        raise errors.ConfigError(
            f"There is no op {op_index}: graph {graph} has {len(operators)} ops."
        )
    operator = operators[op_index]
    if _calls_graphs(operator):
        raise errors.ConfigError(
            f"Op {op_index} runs other graphs of the file; it cannot stand alone."
        )
    code = source.operatorCodes[operator.opcodeIndex]
    unpacked = _Unpacked(source, graph)
    piece, buffers = _piece(
        source.subgraphs[graph], source.buffers, operator=operator, unpacked=unpacked
    )
    single = schema.ModelT(
        version=source.version,
        operatorCodes=[code],
        subgraphs=[piece],
        buffers=buffers,
    )
    single.source = tflite
    return flatbuffer.pack(single)


class _Unpacked:
    """The constants that ops only unpack, in the form that their readers get."""

    def __init__(self, source: Any, graph: int):
        self._graph, self._buffers = source.subgraphs[graph], source.buffers
        self._writers = {}
        for operator in self._graph.operators:
            name, _ = reading.op_name(source.operatorCodes[operator.opcodeIndex])
            if name in ("DENSIFY", "DEQUANTIZE"):
                (target,) = flatbuffer.numbers(operator.outputs)
                self._writers[target] = flatbuffer.numbers(operator.inputs)[0]

    def get(self, index: int) -> np.ndarray | None:
        """Returns the values of such a tensor, None for any other."""
        if index not in self._writers:
            return None
        source = self._graph.tensors[self._writers[index]]
        data = self._buffers[source.buffer].data
        values = self.get(self._writers[index])
        dtype = _UNPACKED.get(source.type)
        if values is None and data is not None and dtype is not None:
            values = np.asarray(data).view(dtype)
            if source.sparsity is not None:
                shape = flatbuffer.numbers(source.shape)
                values = sparse.decode(values, source.sparsity, shape=shape)
        is_real = source.type in (_HALF, _FLOAT)
        is_same = self._graph.tensors[index].type == source.type
        if values is None or not (is_real or is_same):
            return None
        target = np.float32 if self._graph.tensors[index].type == _FLOAT else dtype
        return np.ascontiguousarray(values, target)


def _piece(
    graph: Any, buffers: list[Any], *, operator: Any, unpacked: _Unpacked
) -> tuple[Any, list[Any]]:
    """Copies `operator` and its tensors into a new graph with new buffers."""
    tensors: list[Any] = []
    kept = [schema.BufferT()]
    places = {-1: -1}
    reads = flatbuffer.numbers(operator.inputs)
    writes = flatbuffer.numbers(operator.outputs)
    for index in dict.fromkeys((*reads, *writes)):
        if index < 0:
            continue
        tensor = copy.copy(graph.tensors[index])
        buffer = buffers[tensor.buffer]
        values = unpacked.get(index) if index in reads else None
        if values is not None:
            buffer = schema.BufferT(data=values.reshape(-1).view(np.uint8))
        # An empty buffer means "computed", whichever number it has.
        tensor.buffer = 0 if buffer.data is None else len(kept)
        if buffer.data is not None:
            kept.append(buffer)
        places[index] = len(tensors)
        tensors.append(tensor)
    operator = copy.copy(operator)
    operator.opcodeIndex = 0
    operator.inputs = [places[index] for index in reads]
    operator.outputs = [places[index] for index in writes]
    operator.debugMetadataIndex = -1
    inputs = [
        places[index]
        for index in dict.fromkeys(reads)
        if index >= 0
        and not tensors[places[index]].buffer
        and not tensors[places[index]].isVariable
    ]
    outputs = [places[index] for index in writes if index >= 0]
    piece = schema.SubGraphT(
        tensors=tensors, inputs=inputs, outputs=outputs, operators=[operator]
    )
    return piece, kept


def _calls_graphs(operator: Any) -> bool:
    callers = (
        schema.IfOptionsT,
        schema.WhileOptionsT,
        schema.CallOptionsT,
        schema.CallOnceOptionsT,
        schema.StableHLOCompositeOptionsT,
        schema.StablehloWhileOptionsT,
        schema.StablehloCaseOptionsT,
    )
    return isinstance(operator.builtinOptions or operator.builtinOptions2, callers)
