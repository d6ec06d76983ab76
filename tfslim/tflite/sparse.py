"""Constants in the sparse format: only what is not zero, and where it stands.

XNNPACK uses its sparse kernels only for files that store weights so (float, and not
on every CPU). A DENSIFY op in front of the reader unpacks the constant at loading.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors
from tfslim.tflite import flatbuffer

_CSR = schema.DimensionType.SPARSE_CSR
_FLOAT16 = schema.TensorType.FLOAT16
_READERS = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
)
# Narrowest first: indices take a good part of the file.
_VECTORS = (
    (np.uint8, schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    (np.uint16, schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    (np.int32, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
)


def decode(values: np.ndarray, sparsity: Any, *, shape: tuple[int, ...]) -> np.ndarray:
    """Unpacks a sparse constant.

    Args:
        values: what is stored, flat.
        sparsity: the tensor's `schema.SparsityParametersT`.
        shape: of the dense array.

    Returns:
        The dense array [shape].

    Raises:
        ConversionError: what says where they stand is damaged.
    """
    try:
        return _decode(values, sparsity, shape=shape)
    except (ValueError, IndexError, TypeError, AttributeError, MemoryError) as error:
        raise errors.ConversionError(
            f"Damaged .tflite file: a sparse constant of shape {list(shape)} cannot be "
            f"unpacked: {error}."
        ) from error


def _decode(values: np.ndarray, sparsity: Any, *, shape: tuple[int, ...]) -> np.ndarray:
    # What a level spans are places in the array, or in the padding of its blocks.
    most = 64 * (math.prod(shape) + 1)
    if min(shape, default=0) < 0:
        raise ValueError("a size is below 0")
    count = 1
    levels: list[np.ndarray] = []
    for dimension in sparsity.dimMetadata:
        if dimension.format == _CSR:
            segments = np.asarray(dimension.arraySegments.values).astype(np.int64)
            places = np.asarray(dimension.arrayIndices.values).astype(np.int64)
            if len(segments) != count + 1 or (np.diff(segments) < 0).any():
                raise ValueError("its segments do not follow each other")
            if segments[-1] - segments[0] != len(places):
                raise ValueError(f"{len(places)} indices for {segments[-1]} places")
            parents = np.repeat(np.arange(count), np.diff(segments))
        else:
            if not 0 <= count * dimension.denseSize <= most:
                raise ValueError(f"an axis of {dimension.denseSize}")
            parents = np.repeat(np.arange(count), dimension.denseSize)
            places = np.tile(np.arange(dimension.denseSize), count)
        levels = [*(level[parents] for level in levels), places]
        count = len(places)
    blocks = flatbuffer.numbers(sparsity.blockMap)
    where = [np.zeros(count, np.int64) for _ in shape]
    # The last levels are the places within a block, along the axes that have one.
    for level, axis in enumerate(flatbuffer.numbers(sparsity.traversalOrder)):
        if axis < len(shape):
            sizes = [
                sparsity.dimMetadata[len(shape) + number].denseSize
                for number, blocked in enumerate(blocks)
                if blocked == axis
            ]
            where[axis] += levels[level] * int(np.prod(sizes, dtype=np.int64))
        else:
            where[blocks[axis - len(shape)]] += levels[level]
    if any(
        ((axis < 0) | (axis >= n)).any() for axis, n in zip(where, shape, strict=True)
    ):
        raise ValueError("an index is out of range")
    dense = np.zeros(shape, values.dtype)
    dense[tuple(where)] = values
    return dense


def store_sparse(tflite: bytes, *, min_zeros: float = 0.5) -> bytes:
    """Stores float kernels with many zeros in the sparse format.

    The numbers that the file computes stay the same, bit for bit. A float file gets
    smaller; packed with gzip it gains little.

    Args:
        tflite: the file.
        min_zeros: kernels of convolutions and Dense layers with a larger share of
            zeros are stored so; others would grow.

    Raises:
        ConversionError: it is no `.tflite`.
    """
    flat = flatbuffer.unpack(tflite)
    graph = flat.subgraphs[0]
    packed: dict[int, int] = {}
    operators: list[Any] = []
    for op in graph.operators:
        code = flat.operatorCodes[op.opcodeIndex]
        inputs = list(flatbuffer.numbers(op.inputs))
        if max(code.builtinCode, code.deprecatedBuiltinCode) in _READERS:
            index = inputs[1]
            if index not in packed and _is_worth(
                flat, graph.tensors[index], min_zeros=min_zeros
            ):
                packed[index] = _pack(flat, graph, index=index)
                operators.append(_densify(flat, index, target=packed[index]))
            inputs[1] = packed.get(index, index)
            op.inputs = inputs
        operators.append(op)
    if not packed:
        return tflite
    graph.operators = operators
    flatbuffer.share_buffers(flat)  # Drops the dense ones.
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(tflite))


def store_dense(tflite: bytes) -> bytes:
    """Stores what is in the sparse format densely; undoes `store_sparse`.

    Raises:
        ConversionError: it is no `.tflite`.
    """
    flat = flatbuffer.unpack(tflite)
    graph = flat.subgraphs[0]
    sources: dict[int, int] = {}
    operators = []
    for op in graph.operators:
        inputs = flatbuffer.numbers(op.inputs)
        source = graph.tensors[inputs[0]] if inputs and inputs[0] >= 0 else None
        if source is not None and source.sparsity is not None:
            dtype = np.float16 if source.type == _FLOAT16 else np.float32
            values = flat.buffers[source.buffer].data.view(dtype)
            shape = flatbuffer.numbers(source.shape)
            dense = decode(values, source.sparsity, shape=shape)
            source.sparsity = None
            flat.buffers[source.buffer].data = dense.reshape(-1).view(np.uint8)
            sources[flatbuffer.numbers(op.outputs)[0]] = inputs[0]
            continue
        op.inputs = [sources.get(index, index) for index in inputs]
        operators.append(op)
    graph.operators = operators
    return flatbuffer.pack(flat, attached=flatbuffer.attached_files(tflite))


def _is_worth(flat: Any, tensor: Any, *, min_zeros: float) -> bool:
    data = flat.buffers[tensor.buffer].data
    if data is None or tensor.type != schema.TensorType.FLOAT32:
        return False
    if tensor.sparsity is not None:
        return False
    return bool(np.mean(data.view(np.float32) == 0.0) > min_zeros)


def _pack(flat: Any, graph: Any, *, index: int) -> int:
    """Makes a tensor sparse; returns the number of its dense copy."""
    sparse = graph.tensors[index]
    dense = copy.copy(sparse)
    dense.name, dense.buffer = sparse.name + b";dense", 0
    graph.tensors.append(dense)
    shape = flatbuffer.numbers(sparse.shape)
    kernel = flat.buffers[sparse.buffer].data.view(np.float32)
    rows = kernel.reshape(-1, shape[-1])
    where = rows != 0.0
    sparse.sparsity = schema.SparsityParametersT()
    sparse.sparsity.traversalOrder = list(range(len(shape)))
    sparse.sparsity.dimMetadata = [_dense_axis(size) for size in shape[:-1]]
    sparse.sparsity.dimMetadata.append(_sparse_axis(where))
    sparse.buffer = len(flat.buffers)
    flat.buffers.append(schema.BufferT())
    flat.buffers[-1].data = rows[where].view(np.uint8)
    return len(graph.tensors) - 1


def _dense_axis(size: int) -> Any:
    axis = schema.DimensionMetadataT()
    axis.format, axis.denseSize = schema.DimensionType.DENSE, size
    return axis


def _sparse_axis(where: np.ndarray) -> Any:
    axis = schema.DimensionMetadataT()
    axis.format = _CSR
    segments = np.concatenate([[0], np.cumsum(where.sum(axis=1))])
    axis.arraySegmentsType, axis.arraySegments = _vector(segments)
    axis.arrayIndicesType, axis.arrayIndices = _vector(np.nonzero(where)[1])
    return axis


def _vector(numbers: np.ndarray) -> tuple[int, Any]:
    largest = int(numbers.max(initial=0))
    dtype, kind, build = next(v for v in _VECTORS if largest <= np.iinfo(v[0]).max)
    vector = build()
    vector.values = numbers.astype(dtype)
    return kind, vector


def _densify(flat: Any, source: int, *, target: int) -> Any:
    op = flatbuffer.operator(flat, "DENSIFY", source, target)
    op.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
    op.builtinOptions = schema.DensifyOptionsT()
    return op
