"""What a float `.tflite` of any origin must be before litert-quantizer takes it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, tflite
from tfslim.tflite import flatbuffer, reading, sparse, trial, upsampling

# Bytes of files that are not prepared twice: each step of a job asks for it.
_MOST_KEPT = 2**27
_FLOAT32 = schema.TensorType.FLOAT32
_FLOAT16 = schema.TensorType.FLOAT16
_DEQUANTIZE = schema.BuiltinOperator.DEQUANTIZE
_DENSIFY = schema.BuiltinOperator.DENSIFY
_EXPAND_DIMS = schema.BuiltinOperator.EXPAND_DIMS
_NUMPY = {_FLOAT32: np.float32, _FLOAT16: np.float16}


def prepare(model: bytes) -> bytes:
    """Makes names unique text, op codes current, floats plain, half precision whole.

    litert-quantizer refuses two tensors of one name, reads the op codes of files
    older than 2020 as ADD, passes over float tensors that kept a scale from
    training, and does not see weights behind the DENSIFY of a sparse file or the
    DEQUANTIZE of a float16 one. EXPAND_DIMS, which it leaves in float, becomes the
    RESHAPE that it is, and upsampling that is spelled out one op. A file that needs
    none of this is returned as it is.

    Raises:
        QuantizationError: the model holds integers already, or other
            half-precision constants.
        ConversionError: it is no `.tflite`, or ends the runtime.
    """
    if isinstance(model, bytes) and len(model) < _MOST_KEPT:
        return _prepare_once(model)
    return _prepare(model)


@functools.lru_cache(4)
def _prepare_once(model: bytes) -> bytes:
    return _prepare(model)


def _prepare(model: bytes) -> bytes:
    flat = flatbuffer.unpack(model)
    trial.require(model)
    changed = [
        reading.make_text(flat),
        _current_codes(flat),
        _unpacked(flat),
        _reshaped(flat),
        _widened_halves(flat),
        _unique_names(flat),
        _plain_floats(flat),
        upsampling.use_resize(flat, of_joined=False),
    ]
    prepared = model
    if any(changed):
        flatbuffer.drop_unused(flat)
        prepared = flatbuffer.pack(flat, attached=flatbuffer.attached_files(model))
    _refuse_quantized(tflite.read(prepared))
    return prepared


def _refuse_quantized(model: tflite.TfliteModel) -> None:
    for graph in model.graphs:
        for tensor in graph.tensors:
            halved = tensor.is_constant and tensor.dtype in ("float16", "bfloat16")
            if tensor.quantization is None and not halved:
                continue
            raise errors.QuantizationError(
                f"The model is already quantized: tensor '{tensor.name}' is "
                f"{tensor.dtype}. Pass the float32 .tflite that it was made from."
            )


def _current_codes(flat: Any) -> bool:
    changed = False
    for code in flat.operatorCodes or []:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        changed |= code.builtinCode != number
        code.builtinCode = number
    return changed


def _unpacked(flat: Any) -> bool:
    """Makes plain constants of sparse ones that a DENSIFY reads; drops the op."""
    changed = False
    for graph in flat.subgraphs:
        kept = []
        for op in graph.operators or []:
            code = flat.operatorCodes[op.opcodeIndex].builtinCode
            source = graph.tensors[op.inputs[0]] if code == _DENSIFY else None
            stored = None if source is None else flat.buffers[source.buffer].data
            if source is None or stored is None or source.sparsity is None:
                kept.append(op)
                continue
            target = graph.tensors[op.outputs[0]]
            dtype = _NUMPY.get(target.type)
            if dtype is None:
                kept.append(op)
                continue
            shape = flatbuffer.numbers(source.shape)
            values = sparse.decode(stored.view(dtype), source.sparsity, shape=shape)
            target.buffer = len(flat.buffers)
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            flat.buffers.append(schema.BufferT(data=data))
            source.type, source.buffer, source.sparsity = _FLOAT32, 0, None
            changed = True
        graph.operators = kept
    return changed


def _reshaped(flat: Any) -> bool:
    """Makes a RESHAPE of an EXPAND_DIMS of floats whose sizes are known."""
    changed = False
    for graph in flat.subgraphs:
        for op in graph.operators or []:
            if flat.operatorCodes[op.opcodeIndex].builtinCode != _EXPAND_DIMS:
                continue
            target = graph.tensors[op.outputs[0]]
            sizes = flatbuffer.numbers(target.shapeSignature)
            sizes = sizes or flatbuffer.numbers(target.shape)
            if target.type != _FLOAT32 or sum(size < 0 for size in sizes) > 1:
                continue
            shape = np.array(sizes, np.int32)
            made = flatbuffer.operator(flat, "RESHAPE", op.inputs[0], op.outputs[0])
            op.opcodeIndex = made.opcodeIndex
            op.inputs = [int(op.inputs[0]), len(graph.tensors)]
            op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
            op.builtinOptions = schema.ReshapeOptionsT(newShape=shape)
            graph.tensors.append(
                schema.TensorT(
                    shape=np.array(shape.shape, np.int32),
                    type=schema.TensorType.INT32,
                    name=(target.name or b"") + b";shape",
                    buffer=len(flat.buffers),
                )
            )
            flat.buffers.append(schema.BufferT(data=shape.view(np.uint8)))
            changed = True
    return changed


def _widened_halves(flat: Any) -> bool:
    """Makes float32 of float16 constants that a DEQUANTIZE reads; drops the op."""
    changed = False
    for graph in flat.subgraphs:
        kept = []
        for op in graph.operators or []:
            code = flat.operatorCodes[op.opcodeIndex].builtinCode
            source = graph.tensors[op.inputs[0]] if code == _DEQUANTIZE else None
            data = flat.buffers[source.buffer].data if source is not None else None
            if source is None or source.type != _FLOAT16 or data is None:
                kept.append(op)
                continue
            values = data.view(np.float16).astype(np.float32)
            graph.tensors[op.outputs[0]].buffer = len(flat.buffers)
            flat.buffers.append(schema.BufferT(data=values.view(np.uint8)))
            changed = True
        graph.operators = kept
        _drop_halves(graph)
    return changed


def _drop_halves(graph: Any) -> None:
    """Empties float16 constants that no op reads any more."""
    read = {i for op in graph.operators for i in flatbuffer.numbers(op.inputs)}
    for index, tensor in enumerate(graph.tensors or []):
        if tensor.type == _FLOAT16 and index not in read:
            tensor.type, tensor.buffer = _FLOAT32, 0


def _unique_names(flat: Any) -> bool:
    taken: set[bytes] = set()
    changed = False
    for graph in flat.subgraphs:
        for index, tensor in enumerate(graph.tensors or []):
            name = tensor.name or b"tensor"
            while name in taken:
                name = b"%s#%d" % (name, index)
            changed |= name != tensor.name
            # An empty name is legal in a file, but no key to a range.
            tensor.name = name
            taken.add(name)
    return changed


def _plain_floats(flat: Any) -> bool:
    changed = False
    for graph in flat.subgraphs:
        for tensor in graph.tensors or []:
            params = tensor.quantization
            if (
                tensor.type == _FLOAT32
                and params is not None
                and params.scale is not None
            ):
                tensor.quantization = None
                changed = True
    return changed
