"""The weights of convolutions and dense layers, in a float file and a quantized one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops, tflite
from tfslim.quantization.repair.constants import set_constant

WEIGHTED = ops.tflite("window")
_BITS = {"int8": 8, "int4": 4}


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """Quantized weights, and the op that names them.

    Attributes:
        op: the op that reads the constant: the layer itself, or the DEQUANTIZE before.
        position: which of its inputs.
        tensor: the constant.
        bits: 8 or 4.
        values: its integers, int8 array [shape].
    """

    op: tflite.Op
    position: int
    tensor: tflite.Tensor
    bits: int
    values: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """What an integer is worth, float64, shaped to broadcast against `values`."""
        params = self.tensor.quantization
        assert params is not None  # noqa: S101 - `stored_weights` has seen to it.
        shape = [1] * self.values.ndim
        shape[params.axis] = len(params.scale)
        return params.scale.astype(np.float64).reshape(shape)


@dataclasses.dataclass(frozen=True, eq=False)
class MatchedLayer:
    """An op with weights in a float file, and the same in a quantized one.

    Attributes:
        op: the float one.
        source: its input.
        output: its output.
        weights: its weights; None where they are computed.
        matched: the quantized one.
        stored: its weights; None if they are float.
        offset: the float one's bias; None where it is no constant of both.
        bias: the tensor of the quantized one's; None where `offset` is.
    """

    op: tflite.Op
    source: tflite.Tensor
    output: tflite.Tensor
    weights: np.ndarray | None
    matched: tflite.Op
    stored: Stored | None
    offset: np.ndarray | None = None
    bias: tflite.Tensor | None = None


def macs(graph: tflite.Graph) -> int:
    """Counts the multiply-accumulates of the layers with weights, for one run."""
    total = 0
    for op in graph.ops:
        if op.name not in WEIGHTED:
            continue
        weights, output = graph.tensors[op.inputs[1]], graph.tensors[op.outputs[0]]
        axis = ops.WEIGHTS[op.name].output_axis
        total += output.size * weights.size // max(weights.shape[axis], 1)
    return total


def match_layers(before: tflite.Graph, after: tflite.Graph) -> list[MatchedLayer]:
    """Pairs the ops with weights of a float graph with those of the quantized one.

    Quantization puts ops in between and renames tensors, but keeps the order.
    """
    first, second = (
        [op for op in graph.ops if op.name in WEIGHTED] for graph in (before, after)
    )
    if [op.name for op in first] != [op.name for op in second]:
        return []
    found = []
    for op, matched in zip(first, second, strict=True):
        places = [*op.inputs[2:3], *matched.inputs[2:3]]
        bias = offset = None
        if len(places) == 2 and min(places) >= 0:
            offset, bias = before.tensors[places[0]].data, after.tensors[places[1]]
        is_constant = bias is not None and bias.is_constant and offset is not None
        found.append(
            MatchedLayer(
                op=op,
                source=before.tensors[op.inputs[0]],
                output=before.tensors[op.outputs[0]],
                weights=before.tensors[op.inputs[1]].data,
                matched=matched,
                stored=stored_weights(matched, after),
                offset=offset if is_constant else None,
                bias=bias if is_constant else None,
            )
        )
    return found


def stored_weights(op: tflite.Op, graph: tflite.Graph) -> Stored | None:
    """Finds the integers behind an op's weights; None if they are float.

    Weights with zero points or in blocks count as none.
    """
    position = 1
    tensor = graph.tensors[op.inputs[1]]
    producer = graph.producers.get(tensor.index)
    if producer is not None and producer.name == "DEQUANTIZE":
        if len(graph.consumers[tensor.index]) > 1:
            return None
        op, position = producer, 0
        tensor = graph.tensors[op.inputs[0]]
    params = tensor.quantization
    if tensor.raw is None or tensor.dtype not in _BITS or params is None:
        return None
    if params.zero_point.any() or len(params.scale) not in (
        1,
        tensor.shape[params.axis],
    ):
        return None
    bits = _BITS[tensor.dtype]
    values = tensor.raw.view(np.int8) if bits == 8 else unpack_int4(tensor)
    return Stored(op, position, tensor, bits, values.reshape(tensor.shape))


def unpack_int4(tensor: tflite.Tensor) -> np.ndarray:
    """Reads two integers from each byte, the lower four bits first; int8 [size]."""
    assert tensor.raw is not None  # noqa: S101 - it is a constant.
    packed = tensor.raw.view(np.int8)
    both = np.stack([np.left_shift(packed, 4) >> 4, packed >> 4], axis=1)
    return both.reshape(-1)[: tensor.size]


def pack_int4(values: np.ndarray) -> np.ndarray:
    """Writes integers from -8 to 7 two to a byte, as `unpack_int4` reads them."""
    flat = values.reshape(-1).astype(np.uint8)
    padded = np.resize(flat, len(flat) + len(flat) % 2)
    if len(flat) % 2:
        padded[-1] = 0
    return ((padded[1::2] << 4) | (padded[::2] & 15)).astype(np.uint8)


def write_bias(flat: Any, op: int, *, bias: tflite.Tensor, values: np.ndarray) -> None:
    """Gives an op of a quantized file another bias.

    Args:
        flat: `schema.ModelT`, changed in place.
        op: the op's place.
        bias: the tensor that holds it, float32 or integers.
        values: what it shall be, in the output's unit.
    """
    if bias.quantization is not None:
        limits = np.iinfo(bias.dtype)
        steps = np.rint(values / bias.quantization.scale.astype(np.float64))
        values = np.clip(steps, limits.min, limits.max)
    set_constant(flat, [(op, 2)], values=values.astype(bias.dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """What each output position of a layer reads, as rows of a matrix product.

    Attributes:
        op: the layer, in the float file.
        channels: of its input.
        weights: shape of its weights as the file has them.
    """

    op: tflite.Op
    channels: int
    weights: tuple[int, ...]

    @property
    def groups(self) -> int:
        """How many products there are, each of its own inputs and outputs."""
        if self.op.name == "DEPTHWISE_CONV_2D":
            return self.channels
        if self.op.name == "CONV_2D":
            return self.channels // self.weights[-1]
        return 1

    @property
    def width(self) -> int:
        """The number of inputs that make one output."""
        if self.op.name == "DEPTHWISE_CONV_2D":
            return self.weights[1] * self.weights[2]
        return int(np.prod(self.weights[1:]))

    def to_rows(self, weights: np.ndarray) -> np.ndarray:
        """Arranges weights as [groups, outputs of one, width]."""
        if self.op.name == "DEPTHWISE_CONV_2D":
            taps = weights.reshape(self.width, self.groups, -1)
            return taps.transpose(1, 2, 0)
        return weights.reshape(self.groups, -1, self.width)

    def from_rows(self, rows: np.ndarray) -> np.ndarray:
        """Undoes `to_rows`."""
        if self.op.name == "DEPTHWISE_CONV_2D":
            rows = rows.transpose(2, 0, 1)
        return rows.reshape(self.weights)

    def read(self, values: np.ndarray, most: int) -> np.ndarray:
        """Returns the inputs [groups, positions, width] at `most` even positions."""
        if self.op.name == "FULLY_CONNECTED":
            rows = values.reshape(-1, self.width)
            return rows[_evenly(len(rows), most)][None]
        padded, (ys, xs) = self._padded(values)
        places = _evenly(len(values) * len(ys) * len(xs), most)
        image, place = np.divmod(places, len(ys) * len(xs))
        y = ys[place // len(xs)][:, :, None]
        x = xs[place % len(xs)][:, None, :]
        taps = padded[image[:, None, None], y, x]
        taps = taps.reshape(len(places), -1, self.groups, self.channels // self.groups)
        return taps.transpose(2, 0, 1, 3).reshape(self.groups, len(places), -1)

    def _padded(self, values: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Pads an input and says where each output's taps lie, per axis."""
        options = self.op.options
        is_same = options.padding == schema.Padding.SAME
        pads, taps = [(0, 0)], []
        for axis, stride, dilation in (
            (1, options.strideH, options.dilationHFactor),
            (2, options.strideW, options.dilationWFactor),
        ):
            reach = np.arange(self.weights[axis]) * dilation
            size = values.shape[axis]
            count = -(-(size if is_same else size - reach[-1]) // stride)
            places = np.arange(count)[:, None] * stride + reach
            missing = max(int(places.max()) + 1 - size, 0)
            pads.append((missing // 2, missing - missing // 2))
            taps.append(places)
        return np.pad(values, [*pads, (0, 0)]), taps


def _evenly(count: int, most: int) -> np.ndarray:
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).astype(np.intp)
