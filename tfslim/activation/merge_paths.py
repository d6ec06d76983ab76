"""Which units can be merged: those whose way to the next kernels scales with them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tfslim import ops
from tfslim.graph import ir
from tfslim.pruning import channels as channels_lib

_MAKERS = ops.keras("convolution", "transposed") | {"Dense"}
# f(c z) = c f(z) for c > 0, channel by channel.
_HOMOGENEOUS = ops.keras(
    "pooling", "cropping", "upsampling", "padding", "moving", "idle", "homogeneous"
)
_HOMOGENEOUS_ACTIVATIONS = frozenset(["leaky_relu", "linear", "relu"])


@dataclasses.dataclass(frozen=True)
class Path:
    """The way of a group's channels from the layer that makes them to their readers.

    Attributes:
        group: the channels.
        maker: name of the layer.
        tensor: what the maker gives.
        vectors: float64 [channels, weights + 1], the weights and bias of each channel,
            a normalization behind it included.
        axis: of the maker's kernel that counts the channels.
        is_normalized: whether a batch normalization follows the maker.
        readers: for each kernel that takes the channels in: its layer, int array
            [channels, positions] of the places on its input axis, and that axis.
    """

    group: channels_lib.Group
    maker: str
    tensor: ir.TensorRef
    vectors: ir.Array
    axis: int
    is_normalized: bool
    readers: tuple[tuple[str, ir.Array, int], ...]


class _Paths:
    """What is known of a graph's channels, call by call."""

    def __init__(self, channels: channels_lib.Channels):
        self._channels = channels
        self._graph = channels.graph
        names = [node.layer for node in self._graph.nodes]
        self._once = {name for name in names if names.count(name) == 1}
        self._numbers = {node.layer: n for n, node in enumerate(self._graph.nodes)}

    def find(self, group: channels_lib.Group) -> Path | None:
        """Returns the path of a group if scaling a channel scales all that is read."""
        if len(group.makers) != 1 or group.makers[0] not in self._once:
            return None
        layer = self._graph.layers[group.makers[0]]
        if layer.op not in _MAKERS or layer.config.get("groups", 1) != 1:
            return None
        if layer.config.get("activation", "linear") not in _HOMOGENEOUS_ACTIVATIONS:
            return None
        number = self._numbers[layer.name]
        norms: list[ir.Layer] = []
        readers: dict[str, tuple[str, ir.Array, int]] = {}
        for place, node in enumerate(self._graph.nodes):
            if not any(self._carries(ref, group) for ref in node.inputs):
                continue
            reading = self._graph.layer_of(node)
            found = self._reader(place, group)
            if found is not None:
                readers[reading.name] = found
            elif self._is_norm_of(place, number):
                norms.append(reading)
            elif not _is_homogeneous(reading):
                return None
        if not readers or len(norms) > 1:
            return None
        return Path(
            group,
            layer.name,
            ir.TensorRef(number),
            self._vectors(number, group, norms),
            layer.weights["kernel"].ndim - (2 if layer.op.endswith("Transpose") else 1),
            bool(norms),
            tuple(readers.values()),
        )

    def _carries(self, ref: ir.TensorRef, group: channels_lib.Group) -> bool:
        labels = self._channels.wirings[ref.node].outputs[ref.port]
        return bool(np.isin(labels, group.labels).any())

    def _reader(
        self, place: int, group: channels_lib.Group
    ) -> tuple[str, ir.Array, int] | None:
        """Returns where a kernel takes the channels in, None if it does not."""
        layer = self._graph.layer_of(self._graph.nodes[place])
        wiring = self._channels.wirings[place]
        axis = wiring.sums.get("kernel")
        if axis is None or layer.op not in _MAKERS or layer.config.get("groups", 1) > 1:
            return None
        labels = wiring.weights["kernel"][axis]
        if labels is None:
            return None
        positions = [np.flatnonzero(labels == label) for label in group.labels]
        if len({len(each) for each in positions}) != 1:
            return None
        return layer.name, np.stack(positions), axis

    def _is_norm_of(self, place: int, maker: int) -> bool:
        """Tells whether a call normalizes what the maker gives, and nothing else."""
        node = self._graph.nodes[place]
        layer = self._graph.layer_of(node)
        activation = self._graph.layer_of(self._graph.nodes[maker]).config
        return (
            layer.op == "BatchNormalization"
            and layer.name in self._once
            and node.inputs == (ir.TensorRef(maker),)
            and activation.get("activation", "linear") == "linear"
            and self.count_readers(ir.TensorRef(maker)) == 1
        )

    def count_readers(self, ref: ir.TensorRef) -> int:
        """Returns how often a tensor is used, as an output of the model too."""
        uses = [each for node in self._graph.nodes for each in node.inputs]
        return [*uses, *self._graph.output_refs].count(ref)

    def _vectors(
        self, maker: int, group: channels_lib.Group, norms: list[ir.Layer]
    ) -> ir.Array:
        layer = self._graph.layer_of(self._graph.nodes[maker])
        wiring = self._channels.wirings[maker]
        kernel = layer.weights["kernel"].astype(np.float64)
        axis = kernel.ndim - (2 if layer.op.endswith("Transpose") else 1)
        rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        bias = layer.weights.get("bias", np.zeros(len(rows))).astype(np.float64)
        if norms:
            rows, bias = _normalized(rows, bias, norms[0])
        labels: Any = wiring.weights["kernel"][axis]
        order = [int(np.flatnonzero(labels == label)[0]) for label in group.labels]
        return np.concatenate([rows, bias[:, None]], axis=1)[order]


def _normalized(
    rows: ir.Array, bias: ir.Array, norm: ir.Layer
) -> tuple[ir.Array, ir.Array]:
    weights = {name: w.astype(np.float64) for name, w in norm.weights.items()}
    scale = weights.get("gamma", 1.0) / np.sqrt(
        weights["moving_variance"] + norm.config["epsilon"]
    )
    shift = (bias - weights["moving_mean"]) * scale + weights.get("beta", 0.0)
    return rows * scale[:, None], shift


def _is_homogeneous(layer: ir.Layer) -> bool:
    config = layer.config
    if layer.op == "Activation":
        return config.get("activation") in _HOMOGENEOUS_ACTIVATIONS
    if layer.op == "ReLU":
        return config.get("max_value") is None and not config.get("threshold")
    return layer.op in _HOMOGENEOUS


def collinear_paths(channels: channels_lib.Channels) -> list[Path]:
    """Returns the groups in which a channel may be a multiple of another."""
    paths = _Paths(channels)
    found = [paths.find(group) for group in channels.groups]
    return [path for path in found if path is not None]


def linear_paths(channels: channels_lib.Channels) -> list[Path]:
    """Returns the groups whose ReLUs are read, position by position, by one kernel.

    Where all of them are active, the two layers are one linear map.
    """
    graph = channels.graph
    paths = _Paths(channels)
    found = []
    for path in collinear_paths(channels):
        [name, positions, _], *others = path.readers
        maker, reader = graph.layers[path.maker], graph.layers[name]
        kernel = reader.weights["kernel"]
        is_pointwise = math.prod(kernel.shape[:-2]) == 1
        is_plain = not any("Transpose" in layer.op for layer in (maker, reader))
        number = next(n for n, c in enumerate(graph.nodes) if c.layer == name)
        behind = graph.nodes[number].inputs[0]
        activation = maker.config.get("activation", "linear")
        is_direct = (behind == path.tensor and activation == "relu") or (
            activation == "linear"
            and _is_relu(graph.layer_of(graph.nodes[behind.node]))
            and graph.nodes[behind.node].inputs == (path.tensor,)
            and paths.count_readers(path.tensor) == 1
        )
        whole = np.arange(maker.weights["kernel"].shape[-1])[:, None]
        if (
            not others
            and is_pointwise
            and is_plain
            and is_direct
            and paths.count_readers(behind) == 1
            and np.array_equal(positions, whole)
            and [c.layer for c in graph.nodes].count(name) == 1
        ):
            found.append(path)
    return found


def _is_relu(layer: ir.Layer) -> bool:
    if layer.op == "ReLU":
        return _is_homogeneous(layer) and not layer.config.get("negative_slope")
    return layer.op == "relu" or (
        layer.op == "Activation" and layer.config.get("activation") == "relu"
    )
