"""Borders between floats and INT8: those that meet are joined, ends become integers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim.quantization.integer import parameters as params
from tfslim.tflite import flatbuffer, reading

_Type = schema.TensorType
_BORDERS = ("QUANTIZE", "DEQUANTIZE")


def join(flat: Any) -> None:
    """Takes out a DEQUANTIZE and the QUANTIZE behind it, in place.

    Where the scales differ one QUANTIZE from INT8 to INT8 is left of them.
    """
    graph = flat.subgraphs[0]
    integers: dict[int, int] = {}
    same: dict[int, int] = {}
    outputs = set(reading.numbers(graph.outputs))
    kept = []
    for op in graph.operators:
        op.inputs = [same.get(i, i) for i in reading.numbers(op.inputs)]
        kind = _kind(flat, op)
        if kind not in _BORDERS:
            kept.append(op)
            continue
        (source, *_), (target,) = op.inputs, reading.numbers(op.outputs)
        if kind == "DEQUANTIZE" and graph.tensors[source].type == _Type.INT8:
            integers[target] = source
        elif kind == "QUANTIZE" and source in integers:
            op.inputs = [source := integers[source]]
            both = [graph.tensors[i] for i in (source, target)]
            is_one = both[1].type == _Type.INT8 and params.is_same(
                both[0].quantization, both[1].quantization
            )
            if is_one and target not in outputs:
                same[target] = source
                continue
        kept.append(op)
    graph.operators = kept
    sweep(flat)


def sweep(flat: Any) -> None:
    """Takes out borders, tensors and constants that nothing reads, in place."""
    graph = flat.subgraphs[0]
    while True:
        read = {i for op in graph.operators for i in reading.numbers(op.inputs)}
        read |= set(reading.numbers(graph.outputs))
        kept = [
            op
            for op in graph.operators
            if _kind(flat, op) not in _BORDERS
            or read.intersection(reading.numbers(op.outputs))
        ]
        if len(kept) == len(graph.operators):
            break
        graph.operators = kept
    flatbuffer.drop_tensors(flat)
    flatbuffer.drop_unused(flat)


def take_inputs(flat: Any) -> bool:
    """Lets an integer input that is made floats and INT8 of them be INT8 at once.

    Pixels in UINT8 that a model casts are numbers of the scale 1.

    Returns:
        Whether there was one; the file is changed in place.
    """
    graph, changed = flat.subgraphs[0], False
    for index in reading.numbers(graph.inputs):
        tensor = graph.tensors[index]
        readers = _readers(graph, index)
        if tensor.type not in (_Type.INT8, _Type.UINT8) or tensor.quantization.scale:
            continue
        given = [reading.numbers(op.outputs)[0] for op in readers]
        behind = [op for number in given for op in _readers(graph, number)]
        if (
            not behind
            or any(_kind(flat, op) != "CAST" for op in readers)
            or any(_kind(flat, op) != "QUANTIZE" for op in behind)
            or set(given).intersection(reading.numbers(graph.outputs))
        ):
            continue
        tensor.quantization = params.make(1.0, 0)
        for op in behind:
            op.inputs = [index]
        graph.operators = [op for op in graph.operators if op not in readers]
        changed = True
    if changed:
        sweep(flat)
    return changed


def _readers(graph: Any, index: int) -> list[Any]:
    return [op for op in graph.operators if index in reading.numbers(op.inputs)]


def set_ends(flat: Any, io: str, *, ranges: params.Ranges) -> None:
    """Makes integers of float inputs and outputs, in place.

    Args:
        flat: a file in which borders alone read its inputs and give its outputs.
        io: "int8" or "uint8".
        ranges: tensor name -> (min, max) of the activations.
    """
    graph = flat.subgraphs[0]
    for index in dict.fromkeys(reading.numbers(graph.inputs)):
        if graph.tensors[index].type == _Type.FLOAT32:
            _set_input(flat, index, ranges=ranges)
            if io == "uint8":
                _shift_input(flat, index)
    writers = {i: op for op in graph.operators for i in reading.numbers(op.outputs)}
    places = {}
    for index in dict.fromkeys(reading.numbers(graph.outputs)):
        op = writers.get(index)
        if op is not None and _kind(flat, op) == "DEQUANTIZE":
            places[index] = reading.numbers(op.inputs)[0]
            if io == "uint8":
                places[index] = _shift_output(flat, places[index])
    graph.outputs = [places.get(i, i) for i in reading.numbers(graph.outputs)]
    for signature in flat.signatureDefs or []:
        if not signature.subgraphIndex:
            for entry in signature.outputs or []:
                entry.tensorIndex = places.get(entry.tensorIndex, entry.tensorIndex)
    sweep(flat)


def _set_input(flat: Any, index: int, *, ranges: params.Ranges) -> None:
    """Lets an input hold what the first border behind it gave."""
    graph, tensor = flat.subgraphs[0], flat.subgraphs[0].tensors[index]
    borders = [op for op in graph.operators if index in reading.numbers(op.inputs)]
    own = params.of_range(*ranges[reading.text(tensor.name)])
    if borders:
        own = graph.tensors[reading.numbers(borders[0].outputs)[0]].quantization
    tensor.type, tensor.quantization = _Type.INT8, own
    for op in borders:
        (target,) = reading.numbers(op.outputs)
        if not params.is_same(own, graph.tensors[target].quantization):
            continue
        graph.operators.remove(op)
        for reader in graph.operators:
            reader.inputs = [
                index if i == target else i for i in reading.numbers(reader.inputs)
            ]
        graph.outputs = [
            index if i == target else i for i in reading.numbers(graph.outputs)
        ]


def _shift_input(flat: Any, index: int) -> None:
    graph, tensor = flat.subgraphs[0], flat.subgraphs[0].tensors[index]
    inner = _copy(graph, index, ending=b"_int8")
    for op in graph.operators:
        op.inputs = [inner if i == index else i for i in reading.numbers(op.inputs)]
    tensor.type, tensor.quantization = _Type.UINT8, _shifted(tensor.quantization)
    border = flatbuffer.operator(flat, "QUANTIZE", index, inner, version=2)
    graph.operators.insert(0, border)


def _shift_output(flat: Any, index: int) -> int:
    graph = flat.subgraphs[0]
    outer = _copy(graph, index, ending=b"_uint8")
    given = graph.tensors[outer]
    given.type, given.quantization = _Type.UINT8, _shifted(given.quantization)
    graph.operators.append(
        flatbuffer.operator(flat, "QUANTIZE", index, outer, version=2)
    )
    return outer


def _copy(graph: Any, index: int, *, ending: bytes) -> int:
    added = copy.copy(graph.tensors[index])
    added.name, added.buffer = added.name + ending, 0
    graph.tensors.append(added)
    return len(graph.tensors) - 1


def _shifted(own: Any) -> Any:
    """Returns the parameters of UINT8 for those of INT8."""
    moved = copy.copy(own)
    moved.zeroPoint = np.asarray(own.zeroPoint, np.int64) + 128
    return moved


def _kind(flat: Any, op: Any) -> str:
    return reading.op_name(flat.operatorCodes[op.opcodeIndex])[0]
