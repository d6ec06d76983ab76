"""What a `.tflite` file holds, as plain values: ops, tensors, signatures, metadata."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim.tflite import flatbuffer, reading, sparse

op_name = reading.op_name

_DTYPES = {
    value: name.lower() for value, name in reading.names_of(schema.TensorType).items()
}
# What numpy has no type for, and what is stored packed.
_OPAQUE = {"string", "resource", "variant", "int4", "uint4", "int2", "bfloat16"}


@dataclasses.dataclass(frozen=True, eq=False)
class Quantization:
    """real_value = scale * (q - zero_point), per tensor or along `axis`.

    Attributes:
        scale: float32 array [1] or [channels].
        zero_point: int64 array, as long as `scale`.
        axis: the tensor's axis that counts the channels; 0 if per tensor.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    @property
    def is_per_channel(self) -> bool:
        """Whether each channel has a scale of its own."""
        return len(self.scale) > 1


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph.

    Attributes:
        index: its number in the graph, the same that the interpreter uses.
        name: as written in the file; not always unique.
        shape: sizes; a dimension that may change has the size it was written with.
        shape_signature: like `shape`, -1 where a dimension may change.
        dtype: "float32", "int8", … (numpy's names, and "int4", "string", …).
        quantization: None for a tensor of real numbers.
        raw: uint8 view on the constant's bytes, None where there is none.
        is_variable: whether it keeps its value between two runs.
        sparsity: the schema's parameters of a constant in the sparse format, else None.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    raw: np.ndarray | None
    is_variable: bool
    sparsity: Any = None

    @property
    def is_constant(self) -> bool:
        """Whether the file holds its value."""
        return self.raw is not None

    @property
    def is_dynamic(self) -> bool:
        """Whether one of its dimensions may change."""
        return any(size < 0 for size in self.shape_signature)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def data(self) -> np.ndarray | None:
        """The constant's value [shape], None where there is none or no numpy type."""
        if self.raw is None or self.dtype in _OPAQUE:
            return None
        if self.dtype.startswith(("float8", "type")):
            return None
        dtype = np.dtype(self.dtype)
        if self.sparsity is not None:
            return sparse.decode(self.raw.view(dtype), self.sparsity, shape=self.shape)
        # The runtime passes over bytes behind the last value, too.
        return self.raw[: self.size * dtype.itemsize].view(dtype).reshape(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Op:
    """One operator of a graph.

    Attributes:
        index: its place in the order of execution.
        name: builtin name, such as "CONV_2D", or a custom op's own name.
        inputs: tensor numbers, -1 for an input left out.
        outputs: tensor numbers.
        is_custom: whether it needs a kernel that the runtime does not bring.
        options: the schema's options object, None where there are none.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    is_custom: bool
    options: Any

    @property
    def is_flex(self) -> bool:
        """Whether it is a TensorFlow op that needs the Flex delegate."""
        return self.is_custom and self.name.startswith("Flex")


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A subgraph: tensors, ops in order of execution, its inputs and outputs."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @functools.cached_property
    def producers(self) -> dict[int, Op]:
        """Tensor number -> the op that writes it."""
        return {tensor: op for op in self.ops for tensor in op.outputs if tensor >= 0}

    @functools.cached_property
    def consumers(self) -> dict[int, list[Op]]:
        """Tensor number -> the ops that read it, in order of execution."""
        readers: dict[int, list[Op]] = {}
        for op in self.ops:
            for tensor in dict.fromkeys(op.inputs):
                readers.setdefault(tensor, []).append(op)
        return readers

    def name_of(self, op: Op) -> str:
        """Returns the name of an op's first output, by which it is known, or ""."""
        return self.tensors[op.outputs[0]].name if op.outputs else ""

    def stored(self, index: int) -> Tensor:
        """Returns the tensor in the file whose value an op gets as tensor `index`.

        It stands behind a DENSIFY in a file with sparse kernels, and behind a
        DEQUANTIZE in one of float16.
        """
        producer = self.producers.get(index)
        while producer is not None and producer.name in ("DENSIFY", "DEQUANTIZE"):
            index = producer.inputs[0]
            producer = self.producers.get(index)
        return self.tensors[index]

    def constant(self, index: int) -> np.ndarray | None:
        """Returns the value of a constant, also of one that DENSIFY unpacks."""
        producer = self.producers.get(index)
        if producer is not None and producer.name == "DENSIFY":
            index = producer.inputs[0]
        return self.tensors[index].data


@dataclasses.dataclass(frozen=True, eq=False)
class Signature:
    """A named way to call a graph: argument name -> tensor number."""

    key: str
    graph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclasses.dataclass(frozen=True, eq=False)
class TfliteModel:
    r"""The content of one `.tflite` file; made by `read`.

    `tensors`, `ops`, `inputs` and `outputs` are those of the main graph, the first;
    further graphs are the bodies of control flow or of other signatures.

    Attributes:
        graphs: all graphs.
        signatures: named ways to call them; often one, "serving_default", or none.
        metadata: name -> bytes.
        num_bytes: the file's size.
        has_odd_names: whether some names are no UTF-8; they are shown as \xNN.
    """

    graphs: tuple[Graph, ...]
    signatures: tuple[Signature, ...]
    metadata: dict[str, bytes]
    num_bytes: int
    has_odd_names: bool = False

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The main graph's tensors."""
        return self.graphs[0].tensors

    @property
    def ops(self) -> tuple[Op, ...]:
        """The main graph's ops, in order of execution."""
        return self.graphs[0].ops

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The main graph's inputs."""
        return self.graphs[0].inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The main graph's outputs."""
        return self.graphs[0].outputs

    @property
    def input_names(self) -> dict[str, int]:
        """Argument name -> tensor number of each input, in the graph's order.

        The name is the signature's where there is one, the tensor's otherwise.
        """
        names = {i: name for s in self._main for name, i in s.inputs.items()}
        return {names.get(t.index, t.name): t.index for t in self.inputs}

    @property
    def output_names(self) -> dict[str, int]:
        """Result name -> tensor number of each output, as `input_names`.

        An output may have several names.
        """
        names: dict[int, list[str]] = {}
        for signature in self._main:
            for name, index in signature.outputs.items():
                names.setdefault(index, []).append(name)
        return {
            name: tensor.index
            for tensor in self.outputs
            for name in names.get(tensor.index, [tensor.name])
        }

    @property
    def _main(self) -> list[Signature]:
        return [s for s in self.signatures if s.graph == 0][:1]

    @property
    def is_dynamic(self) -> bool:
        """Whether an input of the main graph has a dimension that may change."""
        return any(tensor.is_dynamic for tensor in self.inputs)

    @property
    def is_quantized(self) -> bool:
        """Whether any tensor of any graph holds integers that stand for reals."""
        return any(t.quantization is not None for g in self.graphs for t in g.tensors)


def read(data: bytes | Path | str) -> TfliteModel:
    """Reads a `.tflite`; constants stay views on its bytes.

    Args:
        data: the file's bytes, or its path.

    Raises:
        ConversionError: it cannot be read, is no `.tflite` or was cut off.
    """
    if isinstance(data, Path | str):
        data = flatbuffer.read_file(data)
    if isinstance(data, bytes) and len(data) < _MOST_KEPT:
        return _read_once(data)
    return _read(data)


# Bytes of files that are kept as read: each step of a job asks for the same few.
_MOST_KEPT = 2**27


@functools.lru_cache(4)
def _read_once(data: bytes) -> TfliteModel:
    return _read(data)


def _read(data: bytes) -> TfliteModel:
    flat = flatbuffer.unpack(data)
    has_odd_names = reading.make_text(flat)
    op_names = [op_name(code) for code in flat.operatorCodes or []]
    return TfliteModel(
        graphs=tuple(
            _graph(graph, flat.buffers, op_names=op_names) for graph in flat.subgraphs
        ),
        signatures=tuple(_signature(s) for s in flat.signatureDefs or []),
        metadata={
            reading.text(entry.name): _bytes(flat.buffers[entry.buffer].data)
            for entry in flat.metadata or []
        },
        num_bytes=len(data),
        has_odd_names=has_odd_names,
    )


def float_ops(model: TfliteModel) -> list[tuple[Op, str]]:
    """Lists the ops that read or give floats, with the name of their first output.

    QUANTIZE and DEQUANTIZE, the borders between floats and integers, are no such.
    """
    found = []
    for graph in model.graphs:
        for op in graph.ops:
            tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
            is_float = any("float" in tensor.dtype for tensor in tensors)
            if is_float and op.name not in ("QUANTIZE", "DEQUANTIZE"):
                found.append((op, graph.name_of(op)))
    return found


def _graph(
    graph: Any, buffers: list[Any], *, op_names: list[tuple[str, bool]]
) -> Graph:
    tensors = tuple(
        _tensor(i, t, buffers=buffers) for i, t in enumerate(graph.tensors or [])
    )
    ops = []
    for index, op in enumerate(graph.operators or []):
        name, is_custom = op_names[op.opcodeIndex]
        options = op.builtinOptions or op.builtinOptions2
        ops.append(
            Op(
                index=index,
                name=name,
                inputs=reading.numbers(op.inputs),
                outputs=reading.numbers(op.outputs),
                is_custom=is_custom,
                options=options,
            )
        )
    return Graph(
        tensors=tensors,
        ops=tuple(ops),
        inputs=tuple(tensors[i] for i in reading.numbers(graph.inputs)),
        outputs=tuple(tensors[i] for i in reading.numbers(graph.outputs)),
    )


def _tensor(index: int, tensor: Any, *, buffers: list[Any]) -> Tensor:
    shape = reading.numbers(tensor.shape)
    dtype = _DTYPES.get(tensor.type, f"type{tensor.type}")
    return Tensor(
        index=index,
        name=reading.text(tensor.name),
        shape=shape,
        shape_signature=reading.numbers(tensor.shapeSignature) or shape,
        dtype=dtype,
        # A float tensor keeps a scale as a trace of training: it means nothing here.
        quantization=None if "float" in dtype else _quantization(tensor.quantization),
        raw=buffers[tensor.buffer].data,
        is_variable=bool(tensor.isVariable),
        sparsity=tensor.sparsity,
    )


def _quantization(params: Any) -> Quantization | None:
    # Old converters write recorded ranges, without a scale, into float files.
    if params is None or params.scale is None or not np.size(params.scale):
        return None
    scale = np.asarray(params.scale, np.float32).reshape(-1)
    zero_point = np.zeros(len(scale), np.int64)
    if params.zeroPoint is not None and np.size(params.zeroPoint):
        zero_point[:] = params.zeroPoint
    return Quantization(scale, zero_point, int(params.quantizedDimension))


def _signature(signature: Any) -> Signature:
    return Signature(
        key=reading.text(signature.signatureKey),
        graph=signature.subgraphIndex,
        inputs={reading.text(m.name): m.tensorIndex for m in signature.inputs or []},
        outputs={reading.text(m.name): m.tensorIndex for m in signature.outputs or []},
    )


def _bytes(data: np.ndarray | None) -> bytes:
    return b"" if data is None else data.tobytes()
