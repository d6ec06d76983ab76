"""Cutting one op out of a `.tflite`, to run or time it alone."""

from __future__ import annotations

import copy
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfslim import errors
from tfslim.tflite import flatbuffer


def single_op(tflite: bytes, op_index: int, *, graph: int = 0) -> bytes:
    """Makes a `.tflite` of one op: its constants inside, the rest as inputs.

    Args:
        tflite: the file to cut from.
        op_index: the op's place in the order of execution.
        graph: the op's subgraph.

    Returns:
        A file whose inputs are the op's non-constant inputs and whose outputs are its
        outputs, all with the same names, shapes and quantization, and no signature.

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
    piece, buffers = _piece(source.subgraphs[graph], source.buffers, operator)
    single = schema.ModelT(
        version=source.version,
        operatorCodes=[code],
        subgraphs=[piece],
        buffers=buffers,
    )
    single.source = tflite
    return flatbuffer.pack(single)


def _piece(graph: Any, buffers: list[Any], operator: Any) -> tuple[Any, list[Any]]:
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
