"""Cross-layer equalization of a layer graph: the same as on a `.tflite`, before export.

A batch norm after the first layer takes the factors, so that the model can go on
training. Source: see `balance`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping

import numpy as np

from tfslim import ops
from tfslim.graph import ir
from tfslim.quantization.repair.balance import balance
from tfslim.quantization.repair.scalable_pairs import Refused

_WEIGHTED = ops.keras("convolution", "depthwise") | {"Dense"}
# f(s * x) = s * f(x) for s > 0, channel by channel.
_CARRIERS = ops.keras("idle", "padding", "pooling") | {"Flatten", "relu"}


Layers = MutableMapping[str, ir.Layer]


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Layer names: whose kernel makes a channel, what scales it, who reads it."""

    first: str
    scaler: str
    second: str
    channels: int

    def first_size(self, layers: Layers) -> np.ndarray:
        """Returns the largest weight that makes each channel, batch norm included."""
        first, scaler = layers[self.first], layers[self.scaler]
        kernel = np.abs(first.weights[_kernel(first)]).astype(np.float64)
        size = kernel.reshape(-1, self.channels).max(axis=0)
        if scaler is not first:
            variance = scaler.weights["moving_variance"] + scaler.config["epsilon"]
            size = size * np.abs(scaler.weights["gamma"]) / np.sqrt(variance)
        return size

    def second_size(self, layers: Layers) -> np.ndarray:
        """Returns the largest weight that reads each channel."""
        return np.abs(self._read(layers[self.second])).max(axis=(0, 2))

    def _read(self, layer: ir.Layer) -> np.ndarray:
        """Returns the kernel as [others, channels, others]."""
        kernel = layer.weights[_kernel(layer)].astype(np.float64)
        return kernel.reshape(-1, self.channels, kernel.shape[-1])

    def scale(self, layers: Layers, factor: np.ndarray) -> None:
        """Divides by `factor` in the scaler, multiplies in the second."""
        scaler, second = layers[self.scaler], layers[self.second]
        names = ("gamma", "beta") if "gamma" in scaler.weights else ("bias",)
        weights = dict(scaler.weights)
        for name in {*names, _kernel(scaler)} & weights.keys():
            old = weights[name]
            # A depthwise kernel [h, w, in, multiplier] has its channels on two axes.
            rows = old.reshape(-1, len(factor)) / factor
            weights[name] = rows.reshape(old.shape).astype(old.dtype)
        layers[self.scaler] = dataclasses.replace(scaler, weights=weights)
        kernel = second.weights[_kernel(second)]
        scaled = self._read(second) * factor[None, :, None]
        scaled = scaled.reshape(kernel.shape).astype(kernel.dtype)
        layers[self.second] = dataclasses.replace(
            second, weights={**second.weights, _kernel(second): scaled}
        )


def equalize_graph(
    graph: ir.Graph,
) -> tuple[ir.Graph, list[tuple[str, str]], list[Refused]]:
    """Balances the channels of neighbouring layers by their weights.

    Args:
        graph: as `tfslim.graph` reads it from either Keras; it is not changed.

    Returns:
        A graph of the same function, the names of the layers of each pair, and the
        layers left alone with the reason.
    """
    pairs, refused = [], []
    for index, node in enumerate(graph.nodes):
        if graph.layer_of(node).op in _WEIGHTED:
            found = _pair(graph, index)
            if isinstance(found, _Pair):
                pairs.append(found)
            else:
                refused.append(Refused(node.layer, found))
    layers = dict(graph.layers)
    balance(pairs, layers)
    rows = [(pair.first, pair.second) for pair in pairs]
    return graph.with_layers(layers), rows, refused


def _pair(graph: ir.Graph, index: int) -> _Pair | str:
    """Follows the output of a node to the layer that reads it, or says what stops."""
    first = graph.layer_of(graph.nodes[index])
    reason = _unusable(graph, first)
    if reason:
        return reason
    scaler, is_linear = first, first.config.get("activation", "linear") == "linear"
    if not is_linear and first.config["activation"] != "relu":
        return f"Its activation '{first.config['activation']}' does not scale."
    channels = graph.nodes[index].shapes[0][-1]
    while True:
        ref = ir.TensorRef(index)
        readers = [i for i, node in enumerate(graph.nodes) if ref in node.inputs]
        if ref in graph.output_refs:
            return "It is an output of the model."
        if len(readers) != 1:
            return f"Its output is read by {len(readers)} layers."
        (index,) = readers
        layer = graph.layer_of(graph.nodes[index])
        if layer.op in _WEIGHTED:
            break
        if layer.op == "BatchNormalization" and is_linear and scaler is first:
            if not {"gamma", "beta"} <= set(layer.weights) or _is_shared(graph, layer):
                return f"'{layer.name}' has no scale of its own."
            scaler = layer
        elif not _carries(layer):
            return f"'{layer.name}' ({layer.op}) does not scale with its input."
        else:
            is_linear = False
    reason = _unusable(graph, layer)
    if reason:
        return f"The next layer: {reason}"
    inputs = layer.weights[_kernel(layer)].shape[-2]
    if (
        channels is None
        or inputs % channels
        or (inputs != channels and layer.op != "Dense")
    ):
        return "The next layer reads it in another shape."
    return _Pair(first.name, scaler.name, layer.name, channels)


def _unusable(graph: ir.Graph, layer: ir.Layer) -> str | None:
    if _is_shared(graph, layer):
        return "It is called more than once."
    if layer.config.get("data_format") == "channels_first":
        return "Its channels are not the last axis."
    if layer.config.get("groups", 1) != 1:
        return "It is a grouped convolution."
    return None


def _kernel(layer: ir.Layer) -> str:
    return "kernel" if "kernel" in layer.weights else "depthwise_kernel"


def _is_shared(graph: ir.Graph, layer: ir.Layer) -> bool:
    return sum(node.layer == layer.name for node in graph.nodes) > 1


def _carries(layer: ir.Layer) -> bool:
    if layer.op == "ReLU":
        return layer.config.get("max_value") is None and not layer.config.get(
            "threshold"
        )
    if layer.op == "Activation":
        return layer.config["activation"] in ("relu", "linear")
    return layer.op in _CARRIERS
