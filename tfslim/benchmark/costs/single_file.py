"""From a spec to a `.tflite` of that one op, with made-up constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim.benchmark.costs.spec import CutOp, OpSpec, Piece, TensorSpec, bits
from tfslim.tflite import flatbuffer, trial

_TYPES = {
    name.lower(): value
    for name, value in vars(schema.TensorType).items()
    if not name.startswith("_")
}


def build(spec: Piece) -> bytes:
    """Makes the file: inputs and outputs are the tensors that are computed.

    Constants that say what to do have their values; weights are drawn, the same each
    time. What the op computes means nothing.
    """
    if isinstance(spec, CutOp):
        return spec.content
    random = np.random.default_rng(0)
    buffers = [schema.BufferT()]
    tensors: list[Any] = []
    places: list[int] = []
    for number, tensor in enumerate((*spec.inputs, *spec.outputs)):
        if tensor.kind == "absent":
            places.append(-1)
            continue
        places.append(len(tensors))
        tensors.append(_tensor(tensor, number, op=spec, buffers=buffers, random=random))
    reads, writes = places[: len(spec.inputs)], places[len(spec.inputs) :]
    number = getattr(schema.BuiltinOperator, spec.op)
    code = schema.OperatorCodeT(
        builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1
    )
    operator = schema.OperatorT(opcodeIndex=0, inputs=reads, outputs=writes)
    _set_options(operator, spec)
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=[
            place
            for place, tensor in zip(reads, spec.inputs, strict=True)
            if tensor.kind == "computed"
        ],
        outputs=writes,
        operators=[operator],
    )
    flat = schema.ModelT(
        version=3, operatorCodes=[code], subgraphs=[graph], buffers=buffers
    )
    content = flatbuffer.pack(flat)
    # Made here, of whole numbers: no stranger's bytes are in it.
    trial.vouch(content)
    return content


def _tensor(
    spec: TensorSpec,
    number: int,
    *,
    op: OpSpec,
    buffers: list[Any],
    random: np.random.Generator,
) -> Any:
    tensor = schema.TensorT(
        shape=list(spec.shape),
        type=_TYPES[spec.dtype],
        buffer=0,
        name=f"t{number}",
        isVariable=spec.kind == "variable",
        hasRank=True,
    )
    if spec.scale is not None:
        count = spec.shape[spec.axis] if spec.is_per_channel else 1
        tensor.quantization = schema.QuantizationParametersT(
            scale=np.full(count, spec.scale, np.float32),
            zeroPoint=np.full(count, spec.zero_point, np.int64),
            quantizedDimension=spec.axis,
        )
    if spec.kind == "constant":
        tensor.buffer = len(buffers)
        data = _constant(spec, random)
        buffers.append(schema.BufferT(data=data.reshape(-1).view(np.uint8)))
    return tensor


def _constant(spec: TensorSpec, random: np.random.Generator) -> np.ndarray:
    if spec.values is not None:
        return np.array(spec.values, np.dtype(spec.dtype))
    if "float" in spec.dtype:
        drawn = random.uniform(-0.1, 0.1, spec.size)
        return drawn.astype(np.float16 if spec.dtype == "float16" else np.float32)
    if bits(spec.dtype) < 8:
        return random.integers(0, 256, spec.num_bytes, np.uint8)
    dtype = np.dtype(spec.dtype)
    if spec.scale is None:
        return np.zeros(spec.size, dtype)  # A legal index of any table.
    if dtype.itemsize > 2:
        return random.integers(-100, 100, spec.size).astype(dtype)
    low, high = (1, 255) if dtype.kind == "u" else (-127, 128)
    return random.integers(low, high, spec.size).astype(dtype)


def _set_options(operator: Any, spec: OpSpec) -> None:
    if not spec.options_type:
        return
    options = getattr(schema, spec.options_type)()
    for name, value in spec.options:
        setattr(options, name, list(value) if isinstance(value, tuple) else value)
    name = spec.options_type.removesuffix("T")
    kind = getattr(schema.BuiltinOptions, name, None)
    if kind is not None:
        operator.builtinOptionsType, operator.builtinOptions = kind, options
    else:
        kind = getattr(schema.BuiltinOptions2, name)
        operator.builtinOptions2Type, operator.builtinOptions2 = kind, options
