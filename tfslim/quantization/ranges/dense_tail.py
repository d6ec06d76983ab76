"""The dense layers at a network's end, run for many samples at once.

In AlexNet or VGG they hold nine tenths of the weights. One sample at a time, the time
goes into reading those from memory, and the runtime keeps a second copy of them in its
own layout. Here they are matrices that view the file's bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import tflite
from tfslim.tflite import flatbuffer

# Fewer bytes of weights are not worth it.
_LEAST_BYTES = 2**25
# Weights that are multiplied at a time.
_BLOCK_BYTES = 2**24

_ACTIVATION = schema.ActivationFunctionType
_ACTIVATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    _ACTIVATION.NONE: lambda x: x,
    _ACTIVATION.RELU: lambda x: np.maximum(x, 0.0),
    _ACTIVATION.RELU6: lambda x: np.clip(x, 0.0, 6.0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Tail:
    """The last ops of a graph, each reading what the one before wrote.

    Attributes:
        graph: the whole graph.
        ops: FULLY_CONNECTED, RESHAPE, RELU and SOFTMAX only.
    """

    graph: tflite.Graph
    ops: tuple[tflite.Op, ...]

    @property
    def source(self) -> tflite.Tensor:
        """What the first of them reads."""
        return self.graph.tensors[self.ops[0].inputs[0]]

    @property
    def tensors(self) -> list[tflite.Tensor]:
        """What they write, in order."""
        return [self.graph.tensors[op.outputs[0]] for op in self.ops]

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns what they write for many samples.

        Args:
            values: float32 array [n, ...], samples of `source`.

        Returns:
            float32 arrays [n, ...], one for each of `tensors`.
        """
        written = []
        for op, tensor in zip(self.ops, self.tensors, strict=True):
            values = self._run(op, values)
            values = values.reshape(len(values), *tensor.shape[1:])
            written.append(values)
        return written

    def _run(self, op: tflite.Op, values: np.ndarray) -> np.ndarray:
        if op.name == "RELU":
            return np.maximum(values, 0.0)
        if op.name == "SOFTMAX":
            powers = np.exp(values - values.max(axis=-1, keepdims=True))
            return powers / powers.sum(axis=-1, keepdims=True)
        if op.name == "RESHAPE":
            return values
        weights = self.graph.tensors[op.inputs[1]].data
        assert weights is not None  # noqa: S101 - `_is_dense` has seen to it.
        products = _product(values.reshape(len(values), -1), weights)
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            products += self.graph.tensors[op.inputs[2]].data
        return _ACTIVATIONS[op.options.fusedActivationFunction](products)


def _product(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns values @ weights.T; of a mapped file a block is in memory at a time."""
    products = np.empty((len(values), len(weights)), np.float32)
    step = max(1, _BLOCK_BYTES // weights.strides[0])
    for start in range(0, len(weights), step):
        block = weights[start : start + step]
        np.matmul(values, block.T, out=products[:, start : start + step])
        flatbuffer.forget(block)
    return products


def split_tail(model: bytes) -> tuple[bytes, Tail | None]:
    """Cuts the dense layers off a float `.tflite`, if they hold most of its weights.

    Returns:
        The file without them, whose output is what they read, and they; or `model`
        and None.
    """
    if len(model) < _LEAST_BYTES:
        return model, None
    content = tflite.read(model)
    graph = content.graphs[0]
    ops = _chain(graph) if len(content.graphs) == 1 else []
    weights = sum(
        graph.tensors[op.inputs[1]].size for op in ops if _is_dense(op, graph)
    )
    if 4 * weights < _LEAST_BYTES or len(ops) == len(graph.ops):
        return model, None
    tail = Tail(graph, tuple(ops))
    flat = flatbuffer.unpack(model)
    main = flat.subgraphs[0]
    main.operators = main.operators[: ops[0].index]
    main.outputs = [tail.source.index]
    flat.signatureDefs = _inputs_only(flat.signatureDefs, tail.source.index)
    read = {i for op in main.operators for i in flatbuffer.numbers(op.inputs)}
    for index, tensor in enumerate(main.tensors):
        if graph.tensors[index].is_constant and index not in read:
            tensor.buffer = 0
    flatbuffer.drop_unused(flat)
    return flatbuffer.pack(flat), tail


def _chain(graph: tflite.Graph) -> list[tflite.Op]:
    """Follows the output back, as long as ops are simple and read by one alone."""
    if len(graph.outputs) != 1:
        return []
    ops: list[tflite.Op] = []
    tensor = graph.outputs[0].index
    for op in reversed(graph.ops):
        readers = graph.consumers.get(tensor, [])
        follows = op.outputs == (tensor,) and len(readers) == (1 if ops else 0)
        if not follows or not _is_simple(op, graph):
            break
        ops.insert(0, op)
        tensor = op.inputs[0]
    while ops and not _is_dense(ops[0], graph):
        ops.pop(0)
    # One reader may read it twice, or the model may give it out.
    if ops and len(graph.consumers[ops[0].inputs[0]]) > 1:
        return []
    return ops


def _is_simple(op: tflite.Op, graph: tflite.Graph) -> bool:
    ends = [graph.tensors[i] for i in (op.inputs[0], *op.outputs)]
    if any(t.shape[:1] != (1,) or t.dtype != "float32" or t.is_dynamic for t in ends):
        return False
    if op.name == "SOFTMAX":
        return op.options.beta == 1.0
    return op.name in ("RESHAPE", "RELU") or _is_dense(op, graph)


def _is_dense(op: tflite.Op, graph: tflite.Graph) -> bool:
    if op.name != "FULLY_CONNECTED":
        return False
    constants = [graph.tensors[i] for i in op.inputs[1:] if i >= 0]
    return (
        all(t.data is not None and t.dtype == "float32" for t in constants)
        and op.options.fusedActivationFunction in _ACTIVATIONS
        and graph.tensors[op.inputs[0]].size == constants[0].shape[1]
    )


def _inputs_only(signatures: Any, output: int) -> Any:
    """Keeps the inputs' names; the output is another tensor now."""
    for signature in signatures or []:
        signature.outputs = [schema.TensorMapT(name=b"tail", tensorIndex=output)]
    return signatures
