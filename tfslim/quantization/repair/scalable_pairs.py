"""Which two layers of a `.tflite` may scale a channel between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, MutableMapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops, tflite

_ACTIVATION = schema.ActivationFunctionType
_WEIGHTED = ops.tflite("window")
# f(s * x) = s * f(x) for s > 0, channel by channel.
_CARRIERS = ops.tflite("homogeneous")

# (op's place, position among its inputs) -> values: an op's own, though it may share
# them in the file.
Constants = MutableMapping[tuple[int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Refused:
    """A layer whose channels keep their scale.

    Attributes:
        tensor: its output.
        reason: one sentence.
    """

    tensor: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two ops with weights, and only what carries a scale between them.

    Attributes:
        first: writes the channels.
        second: reads them.
        first_tensor: output of `first`.
        second_tensor: output of `second`.
        channels: their number.
        may_absorb: whether a constant in a channel is a constant to every output of
            `second`: no padding on the way, and only ReLU in between.
    """

    first: tflite.Op
    second: tflite.Op
    first_tensor: tflite.Tensor
    second_tensor: tflite.Tensor
    channels: int
    may_absorb: bool

    def first_size(self, constants: Mapping[tuple[int, int], np.ndarray]) -> np.ndarray:
        """Returns the largest weight that makes each channel [channels]."""
        weights = np.abs(constants[self.first.index, 1])
        if self.first.name == "DEPTHWISE_CONV_2D":
            return weights.reshape(-1, self.channels).max(axis=0)
        return weights.reshape(self.channels, -1).max(axis=1)

    def second_size(
        self, constants: Mapping[tuple[int, int], np.ndarray]
    ) -> np.ndarray:
        """Returns the largest weight that reads each channel [channels]."""
        return np.abs(self._read(constants)).max(axis=(0, 2))

    def _read(self, constants: Mapping[tuple[int, int], np.ndarray]) -> np.ndarray:
        """Returns a view on the second's weights, [others, channels, others]."""
        weights = constants[self.second.index, 1]
        if self.second.name == "DEPTHWISE_CONV_2D":
            return weights.reshape(
                -1, self.channels, weights.shape[-1] // self.channels
            )
        return weights.reshape(-1, self.channels, 1)

    def scale(self, constants: Constants, factor: np.ndarray) -> None:
        """Divides the channels by `factor` in the first, multiplies in the second."""
        weight, bias = (self.first.index, 1), (self.first.index, 2)
        if self.first.name == "DEPTHWISE_CONV_2D":
            constants[weight] = constants[weight] / factor
        else:
            shape = (-1,) + (1,) * (constants[weight].ndim - 1)
            constants[weight] = constants[weight] / factor.reshape(shape)
        if bias in constants:
            constants[bias] = constants[bias] / factor
        read = self._read(constants) * factor[None, :, None]
        second = (self.second.index, 1)
        constants[second] = read.reshape(constants[second].shape)

    def absorb(self, constants: Constants, least: np.ndarray) -> int:
        """Moves what every channel has at least into the second's bias.

        Args:
            constants: weights and biases, changed.
            least: the least value of each channel [channels].

        Returns:
            How many channels had something to give.
        """
        first, second = (self.first.index, 2), (self.second.index, 2)
        constant = np.maximum(least, 0.0)
        has_biases = first in constants and second in constants
        if not self.may_absorb or not has_biases or not constant.any():
            return 0
        weights = constants[self.second.index, 1]
        per_output = weights.reshape(len(weights), -1, self.channels).sum(axis=1)
        constants[first] = constants[first] - constant
        constants[second] = constants[second] + per_output @ constant
        return int((constant > 0).sum())


def pairs(graph: tflite.Graph) -> tuple[list[Pair], list[Refused]]:
    """Finds all pairs of a float graph, and says of the other layers why not."""
    found, refused = [], []
    for op in graph.ops:
        if op.name not in _WEIGHTED:
            continue
        pair = _pair(op, graph)
        if isinstance(pair, Pair):
            found.append(pair)
        else:
            refused.append(Refused(graph.tensors[op.outputs[0]].name, pair))
    return found, refused


def _pair(first: tflite.Op, graph: tflite.Graph) -> Pair | str:
    """Follows the output of `first` to the op that reads it; or says what stops it."""
    reason = _unusable(first, graph)
    if reason:
        return reason
    tensor = first_tensor = graph.tensors[first.outputs[0]]
    channels = tensor.shape[-1]
    op, is_plain = first, True
    while True:
        stop = _stops_scale(op, graph)
        if stop:
            return stop
        (second,) = graph.consumers[tensor.index]
        if second.name in _WEIGHTED and second.inputs[0] == tensor.index:
            break
        if second.name not in _CARRIERS or not _carries(
            second, graph, channels=channels
        ):
            return f"{second.name} does not scale with its input channel by channel."
        is_plain &= second.name in ("RELU", "RESHAPE")
        op, tensor = second, graph.tensors[second.outputs[0]]
    reason = _unusable(second, graph)
    if reason:
        return f"The next layer: {reason}"
    size = graph.tensors[second.inputs[1]].shape
    inputs = tensor.shape[-1]
    if second.name == "CONV_2D" and size[-1] != inputs:
        return "The next convolution is grouped."
    if second.name == "DEPTHWISE_CONV_2D" and inputs != channels:
        return "The next depthwise convolution reads it in another shape."
    if second.name == "FULLY_CONNECTED" and (
        size[-1] != inputs or inputs % channels != 0
    ):
        return "The next dense layer reads it in another shape."
    return Pair(
        first=first,
        second=second,
        first_tensor=first_tensor,
        second_tensor=graph.tensors[second.outputs[0]],
        channels=channels,
        may_absorb=is_plain and _sees_constants(second, size),
    )


def _unusable(op: tflite.Op, graph: tflite.Graph) -> str | None:
    for index in op.inputs[1:3]:
        tensor = graph.tensors[index] if index >= 0 else None
        if tensor is None:
            continue
        if tensor.data is None or tensor.dtype != "float32":
            return "Its weights are no float constants."
    return None


def _stops_scale(op: tflite.Op, graph: tflite.Graph) -> str | None:
    fused = getattr(op.options, "fusedActivationFunction", _ACTIVATION.NONE)
    if fused not in (_ACTIVATION.NONE, _ACTIVATION.RELU):
        names = {value: name for name, value in vars(_ACTIVATION).items()}
        return f"{names[fused]} has a fixed limit: a scaled channel would be cut."
    index = op.outputs[0]
    if any(tensor.index == index for tensor in graph.outputs):
        return "It is an output of the model."
    readers = graph.consumers.get(index, [])
    if len(readers) != 1:
        names_read = ", ".join(reader.name for reader in readers) or "nobody"
        return f"Its output is read by {names_read}, not by one layer."
    return None


def _carries(op: tflite.Op, graph: tflite.Graph, *, channels: int) -> bool:
    before, after = (
        graph.tensors[op.inputs[0]].shape,
        graph.tensors[op.outputs[0]].shape,
    )
    if op.name == "RESHAPE":  # Flatten keeps the channels innermost.
        return before[-1] == channels and after[-1] % channels == 0
    if op.name == "PAD":
        paddings = graph.tensors[op.inputs[1]].data
        return paddings is not None and not paddings[-1].any()
    if op.name == "MEAN":
        axes = graph.tensors[op.inputs[1]].data
        return axes is not None and (len(before) - 1) not in {
            int(axis) % len(before) for axis in axes.reshape(-1)
        }
    return True


def _sees_constants(op: tflite.Op, size: tuple[int, ...]) -> bool:
    if op.name == "FULLY_CONNECTED":
        return True
    if op.name != "CONV_2D":
        return False
    return op.options.padding == schema.Padding.VALID or size[1:3] == (1, 1)
