"""Would XNNPACK compute a graph with its sparse kernels? And if not, why not?

Read from XNNPACK's source (https://github.com/google/XNNPACK, commit 75db3c0 of
August 2026: `xnn_check_nchw_compatibility` and `xnn_subgraph_rewrite_for_nchw` in
src/subgraph.c, `xnn_is_chw_compatible_config` in src/xnnpack/hardware-config.h) and
from LiteRT's delegate, which asks for sparse kernels only where the file stores a
weight in the sparse format.
"""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import ops, tflite

# More than this share of zeros in the 1x1 convolutions of a connected part.
MIN_ZEROS = 2 / 3
_SAME = schema.Padding.SAME
# The middle axes of [batch, height, width, channels].
_SPATIAL = {1, 2}


@dataclasses.dataclass(frozen=True)
class _Role:
    """What an op can be in a sparse part: its begin, its inside, its end."""

    begins: bool = False
    is_inside: bool = False
    ends: bool = False
    obstacle: str = ""


def host_obstacle() -> str | None:
    """Says why this machine has no sparse kernels, None if it has."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i686", "x86"):
        return None
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = " avx "  # Every x86 of the last ten years has it.
    if " avx " not in flags:
        return None
    return "XNNPACK never uses its sparse kernels on x86 with AVX, as here"


def obstacles(model: tflite.TfliteModel) -> dict[int, str | None]:
    """Says for each convolution and Dense op why it is not computed sparsely.

    Args:
        model: a file as `tflite.read` gives it.

    Returns:
        Number of the op -> the first obstacle in the file, None where there is none
        and a phone's XNNPACK would compute it sparsely.
    """
    parts = _Parts(model.graphs[0])
    has_sparse = any(op.name == "DENSIFY" for op in model.ops)
    return {
        op.index: parts.obstacle(op, has_sparse)
        for op in model.ops
        if op.name in ops.tflite("window")
    }


class _Parts:
    """The connected parts of a graph that might be computed sparsely."""

    def __init__(self, graph: tflite.Graph):
        self._graph = graph
        self._padding = {op.index: _fused_pad(graph, op) for op in graph.ops}
        self._hidden = {
            pad.index for pad in self._padding.values() if pad is not None
        } | {op.index for op in graph.ops if self._is_weight(op)}
        self._roles = {op.index: self._role(op) for op in graph.ops}
        self._leader = {op.index: op.index for op in graph.ops}
        for op in graph.ops:
            if self._roles[op.index].is_inside:
                for producer in filter(None, self._producers(op)):
                    role = self._roles[producer.index]
                    if role.is_inside or role.begins:
                        self._unite(op.index, producer.index)

    def obstacle(self, op: tflite.Op, has_sparse: bool) -> str | None:
        """Returns the first reason against sparse kernels for an op."""
        graph = self._graph
        if op.name == "DEPTHWISE_CONV_2D":
            return "a depthwise convolution has no sparse kernel"
        if graph.tensors[op.outputs[0]].dtype != "float32":
            return "its arithmetic is not float; the sparse kernels are"
        role = self._roles[op.index]
        if role.begins:
            return "it begins the sparse part; only the 1x1 convolutions are sparse"
        if not role.is_inside:
            return role.obstacle
        members = [o for o in graph.ops if self._find(o.index) == self._find(op.index)]
        for member in members:
            if self._roles[member.index].is_inside:
                found = self._border(member)
                if found is not None:
                    return found
        if not any(self._roles[member.index].ends for member in members):
            return "no MEAN over height and width ends the part that it stands in"
        zeros = _zeros(graph, members)
        if zeros <= MIN_ZEROS:
            return f"its part has {zeros:.0%} zeros in 1x1 convolutions, 67% are needed"
        if not has_sparse:
            return "no weight is stored in the sparse format, which asks XNNPACK for it"
        return None

    def _border(self, op: tflite.Op) -> str | None:
        """Says what an op inside reads or shares with one that cannot be inside."""
        name = self._graph.tensors[op.outputs[0]].name
        for tensor, producer in zip(self._read(op), self._producers(op), strict=True):
            if producer is None:
                return f"its part reads the model's input, at '{name}'"
            role = self._roles[producer.index]
            if not (role.is_inside or role.begins):
                return f"its part is cut by {producer.name}: {role.obstacle}"
            for reader in self._graph.consumers.get(tensor, []):
                other = self._roles[reader.index]
                if not other.is_inside and reader.index not in self._hidden:
                    return f"its part is also read by {reader.name}: {other.obstacle}"
        return None

    def _read(self, op: tflite.Op) -> list[int]:
        """Returns the tensors that an op computes with, past a fused padding."""
        pad = self._padding[op.index]
        found = []
        for index in op.inputs:
            tensor = self._graph.tensors[index] if index >= 0 else None
            producer = self._graph.producers.get(index)
            is_weight = producer is not None and self._is_weight(producer)
            if tensor is None or tensor.is_constant or is_weight:
                continue
            if pad is not None and index == pad.outputs[0]:
                index = pad.inputs[0]
            found.append(index)
        return found

    def _is_weight(self, op: tflite.Op) -> bool:
        """Whether an op only unpacks a constant."""
        return bool(op.outputs) and self._graph.stored(op.outputs[0]).is_constant

    def _producers(self, op: tflite.Op) -> list[tflite.Op | None]:
        return [self._graph.producers.get(index) for index in self._read(op)]

    def _role(self, op: tflite.Op) -> _Role:
        graph = self._graph
        computed = [graph.tensors[i] for i in (*self._read(op), *op.outputs)]
        if op.index in self._hidden:
            return _Role()
        if any(tensor.dtype != "float32" for tensor in computed):
            return _Role(obstacle="its tensors are not float32")
        if op.name == "CONV_2D":
            return _conv(graph, op, pad=self._padding[op.index])
        if op.name == "DEPTHWISE_CONV_2D":
            return _depthwise(graph, op, pad=self._padding[op.index])
        if op.name == "FULLY_CONNECTED":
            return _Role(is_inside=True)
        if op.name in ops.tflite("chw"):
            if all(len(tensor.shape) == 4 for tensor in computed):
                return _Role(is_inside=True)
            return _Role(obstacle="its tensors have not four axes")
        if op.name == "MEAN":
            axes = graph.tensors[op.inputs[1]].data
            if axes is not None and {int(a) % 4 for a in axes.reshape(-1)} == _SPATIAL:
                return _Role(is_inside=True, ends=True)
            return _Role(obstacle="it is no mean over height and width")
        return _Role(obstacle="XNNPACK's sparse inference does not know it")

    def _find(self, index: int) -> int:
        while self._leader[index] != index:
            index = self._leader[index]
        return index

    def _unite(self, first: int, second: int) -> None:
        self._leader[self._find(first)] = self._find(second)


def _fused_pad(graph: tflite.Graph, op: tflite.Op) -> tflite.Op | None:
    """Returns the PAD that XNNPACK takes into a convolution without padding."""
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D") or op.options.padding == _SAME:
        return None
    pad = graph.producers.get(op.inputs[0])
    if pad is None or pad.name != "PAD" or len(graph.consumers[op.inputs[0]]) > 1:
        return None
    return pad


def _paddings(
    graph: tflite.Graph, op: tflite.Op, *, pad: tflite.Op | None
) -> list[int]:
    """Returns the padding above, below, left and right; -1 for one that depends."""
    options = op.options
    if pad is not None:
        sides = graph.tensors[pad.inputs[1]].data
        return [-1] * 4 if sides is None else [int(n) for n in sides[1:3].reshape(-1)]
    if options.padding != _SAME:
        return [0] * 4
    if options.strideH != 1 or options.strideW != 1:
        return [-1] * 4
    height, width = graph.tensors[op.inputs[1]].shape[1:3]
    vertical, horizontal = height - 1, width - 1
    return [
        *(vertical // 2, vertical - vertical // 2),
        *(horizontal // 2, horizontal - horizontal // 2),
    ]


def _conv(graph: tflite.Graph, op: tflite.Op, *, pad: tflite.Op | None) -> _Role:
    options = op.options
    _, *size, inputs = graph.tensors[op.inputs[1]].shape
    channels = graph.tensors[op.inputs[0]].shape[-1]
    strides = [options.strideH, options.strideW]
    paddings = _paddings(graph, op, pad=pad)
    if inputs != channels:
        return _Role(obstacle="a grouped convolution has no sparse kernel")
    if [options.dilationHFactor, options.dilationWFactor] != [1, 1]:
        return _Role(obstacle="a dilated convolution has no sparse kernel")
    if size == [1, 1]:
        if strides == [1, 1] and paddings == [0] * 4:
            return _Role(is_inside=True)
        return _Role(obstacle="a 1x1 convolution with stride has no sparse kernel")
    if size == [3, 3] and strides == [2, 2] and inputs == 3:
        if paddings == [1] * 4:
            return _Role(begins=True)
        return _Role(obstacle="the first convolution is not padded by 1 on each side")
    return _Role(
        obstacle=f"a {size[0]}x{size[1]} convolution has no sparse kernel, 1x1 have"
    )


def _depthwise(graph: tflite.Graph, op: tflite.Op, *, pad: tflite.Op | None) -> _Role:
    options = op.options
    _, *size, outputs = graph.tensors[op.inputs[1]].shape
    is_plain = (
        [options.dilationHFactor, options.dilationWFactor] == [1, 1]
        and outputs == graph.tensors[op.inputs[0]].shape[-1]
        and options.strideH == options.strideW
        and options.strideH in (1, 2)
        and size in ([3, 3], [5, 5])
    )
    if not is_plain:
        return _Role(
            obstacle="only 3x3 and 5x5 depthwise convolutions with stride 1 or 2, "
            "without dilation or multiplier, fit"
        )
    if _paddings(graph, op, pad=pad) != [size[0] // 2] * 4:
        return _Role(obstacle="it is not padded alike on all sides")
    return _Role(is_inside=True)


def _zeros(graph: tflite.Graph, members: list[tflite.Op]) -> float:
    """Returns the share of zeros in the 1x1 convolutions among `members`."""
    zeros = total = 0
    for op in members:
        if op.name not in ("CONV_2D", "FULLY_CONNECTED"):
            continue
        kernel = graph.stored(op.inputs[1]).data
        if kernel is not None and kernel.shape[1:-1] in ((), (1, 1)):
            zeros += int(np.sum(kernel == 0))
            total += kernel.size
    return zeros / total if total else 0.0
