"""Is a `.tflite` whole? What can be seen without running it.

Indices in range, ops with the tensors that they need, scales that are scales, graphs
that do not call themselves. The rest a child process finds out, see `trial`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import escape, ops
from tfslim.tflite import arity
from tfslim.tflite.reading import numbers, op_name, text

_BITS = {
    getattr(schema.TensorType, name): bits
    for name, bits in {
        **{"BOOL": 8, "INT4": 4, "INT8": 8, "UINT8": 8, "INT16": 16, "UINT16": 16},
        **{"FLOAT16": 16, "INT32": 32, "UINT32": 32, "FLOAT32": 32},
        **{"INT64": 64, "UINT64": 64, "FLOAT64": 64},
        **{"COMPLEX64": 64, "COMPLEX128": 128},
    }.items()
}
_INTEGERS = {
    getattr(schema.TensorType, name): np.iinfo(name.lower())
    for name in ("INT8", "UINT8", "INT16", "INT32")
}
_FLOATS = {
    getattr(schema.TensorType, name) for name in ("FLOAT16", "FLOAT32", "FLOAT64")
}
_HANDLES = {
    getattr(schema.TensorType, name) for name in ("RESOURCE", "VARIANT", "STRING")
}
_MAX_RANK = 64  # Numpy's.


def check_counts(data: bytes) -> None:
    """Refuses files that list more than they hold, before anything is made of them.

    Entries may be one and the same table: a list of lists would fill any memory.

    Raises:
        ValueError: it is such a file.
    """
    root = schema.Model.GetRootAs(data, 0)
    graphs = [root.Subgraphs(i) for i in range(min(root.SubgraphsLength(), len(data)))]
    entries = sum(g.TensorsLength() + g.OperatorsLength() for g in graphs)
    entries += root.SignatureDefsLength() + root.BuffersLength()
    # Each has at least an offset of four bytes.
    if 4 * entries > len(data):
        raise ValueError(f"it lists {entries} entries")


def check(flat: Any) -> None:
    """Checks a `schema.ModelT`.

    Raises:
        ValueError: what is wrong, in words.
    """
    if not flat.subgraphs:
        raise ValueError("it holds no graph")
    calls: dict[int, set[int]] = {}
    for number, graph in enumerate(flat.subgraphs):
        tensors = graph.tensors or []
        for index, tensor in enumerate(tensors):
            _check_index("buffer", tensor.buffer, table=flat.buffers)
            fault = _tensor_fault(tensor, flat.buffers[tensor.buffer].data)
            if fault:
                raise ValueError(f"tensor {_name(index, tensors)} {fault}")
        for index in (*numbers(graph.inputs), *numbers(graph.outputs)):
            _check_index("tensor", index, table=tensors)
        _check_operators(flat, graph)
        calls[number] = set(_calls(flat, graph))
    _check_calls(calls)
    for signature in flat.signatureDefs or []:
        _check_index("graph", signature.subgraphIndex, table=flat.subgraphs)
        tensors = flat.subgraphs[signature.subgraphIndex].tensors
        for entry in (*(signature.inputs or []), *(signature.outputs or [])):
            _check_index("tensor", entry.tensorIndex, table=tensors)
    for entry in flat.metadata or []:
        _check_index("buffer", entry.buffer, table=flat.buffers)


def _check_operators(flat: Any, graph: Any) -> None:
    tensors = graph.tensors or []
    # What holds a value before an op runs.
    ready = {i for i, tensor in enumerate(tensors) if _has_value(flat, tensor)}
    ready.update(numbers(graph.inputs))
    for place, operator in enumerate(graph.operators or []):
        _check_index("op code", operator.opcodeIndex, table=flat.operatorCodes)
        inputs, outputs = numbers(operator.inputs), numbers(operator.outputs)
        for index in (*inputs, *outputs):
            _check_index("tensor", index, table=tensors, first=-1)
        name, is_custom = op_name(flat.operatorCodes[operator.opcodeIndex])
        fault = "" if is_custom else _builtin_fault(name, operator, tensors=tensors)
        # Old converters do not mark the state of recurrent layers as one.
        for index in inputs[:1] if name in ops.tflite("stateful") else inputs:
            if index >= 0 and index not in ready:
                fault = fault or f"reads {_name(index, tensors)}, which nothing wrote"
        for index in outputs:
            if index >= 0 and _is_constant(flat, tensors[index]):
                fault = fault or f"writes to {_name(index, tensors)}, a constant"
        if fault:
            raise ValueError(f"op {place} ({escape.terminal(name)}) {fault}")
        ready.update(outputs)
    for index in numbers(graph.outputs):
        if index not in ready:
            raise ValueError(f"nothing writes the output {_name(index, tensors)}")


def _builtin_fault(name: str, operator: Any, *, tensors: Any) -> str:
    inputs, outputs = numbers(operator.inputs), numbers(operator.outputs)
    options = operator.builtinOptions or operator.builtinOptions2
    fault = arity.fault(name, inputs, outputs=outputs, options=options)
    if fault or name not in ops.tflite("same_kind"):
        return fault
    kinds = [tensors[index].type in _FLOATS for index in (inputs[0], outputs[0])]
    # The runtime writes floats into the smaller place of integers.
    return "" if kinds[0] == kinds[1] else "mixes floats and integers"


def _has_value(flat: Any, tensor: Any) -> bool:
    """Whether a tensor holds a value that no op writes, be it an empty one."""
    is_known = tensor.isVariable or _is_constant(flat, tensor)
    return is_known or 0 in numbers(tensor.shape) or tensor.type in _HANDLES


def _is_constant(flat: Any, tensor: Any) -> bool:
    return flat.buffers[tensor.buffer].data is not None and not tensor.isVariable


def _calls(flat: Any, graph: Any) -> Iterator[int]:
    """Yields the graphs that the ops of a graph run."""
    for operator in graph.operators or []:
        options = operator.builtinOptions or operator.builtinOptions2
        for field, value in vars(options).items() if options else ():
            if field == "subgraph" or field.lower().endswith("subgraphindex"):
                value = [value]
            elif field != "branchSubgraphIndices":
                continue
            for index in numbers(value):
                _check_index("graph", index, table=flat.subgraphs)
                yield index


def _check_calls(calls: dict[int, set[int]]) -> None:
    """Refuses graphs that run themselves: the runtime follows them without end."""
    done: set[int] = set()
    left = dict(calls)
    while left:
        ends = {number for number, called in left.items() if called <= done}
        if not ends:
            raise ValueError(f"graph {min(left)} runs itself")
        done |= ends
        left = {number: called for number, called in left.items() if number not in ends}


def _tensor_fault(tensor: Any, data: np.ndarray | None) -> str:
    shape = numbers(tensor.shape)
    if len(shape) > _MAX_RANK:
        return f"has {len(shape)} dimensions"
    if len(numbers(tensor.shapeSignature)) not in (0, len(shape)):
        return f"has the shape {list(shape)} and a signature of another length"
    bits = _BITS.get(tensor.type)
    if data is not None and bits is not None and tensor.sparsity is None:
        wanted = -(-math.prod(shape) * bits // 8)
        if min(shape, default=0) < 0 or len(data) < wanted:
            return (
                f"is a constant of shape {list(shape)} with {len(data)} bytes, not "
                f"{wanted}"
            )
    if data is not None and bits is not None and 8 * len(data) % bits:
        if tensor.sparsity is not None:
            return f"is a sparse constant with {len(data)} bytes"
    if min(shape, default=0) < -1:
        return f"has the shape {list(shape)}"
    return _quantization_fault(tensor, shape, is_constant=data is not None)


def _quantization_fault(
    tensor: Any, shape: tuple[int, ...], *, is_constant: bool
) -> str:
    params, limits = tensor.quantization, _INTEGERS.get(tensor.type)
    # What stands at a float tensor is a trace of training.
    if limits is None or params is None or not np.size(params.scale):
        return ""
    if params.scale is None:
        return ""
    scale = np.asarray(params.scale).reshape(-1)
    # A channel of zeros may have the scale 0; a range of values may not.
    least = 0.0 if is_constant else np.nextafter(0, 1)
    if not (np.isfinite(scale) & (scale >= least)).all():
        return f"has the scale {scale.min()}; scales are finite and above 0"
    zeros = np.asarray(numbers(params.zeroPoint))
    if zeros.size not in (0, 1, scale.size):
        return f"has {scale.size} scales and {zeros.size} zero points"
    if zeros.size and not limits.min <= zeros.min() <= zeros.max() <= limits.max:
        return f"has a zero point out of the range of its type, {limits.dtype}"
    axis = params.quantizedDimension
    if scale.size > 1 and not (
        0 <= axis < len(shape) and shape[axis] in (scale.size, -1)
    ):
        return f"of shape {list(shape)} has {scale.size} scales along axis {axis}"
    return ""


def _check_index(kind: str, index: int, *, table: Any, first: int = 0) -> None:
    count = len(table or [])
    if not first <= index < count:
        raise ValueError(f"{kind} {index} is named, but there are {count}")


def _name(index: int, tensors: Any) -> str:
    return f"{index} '{escape.terminal(text(tensors[index].name))}'"
