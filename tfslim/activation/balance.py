"""Weights moved through rectifiers, so that both sides of a unit have equal norms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfslim import ops
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib

_KERNELS = ops.keras("convolution", "transposed") | {"Dense"}
# f(c z) = c f(z) for c > 0, channel by channel.
_HOMOGENEOUS = ops.keras(
    "pooling", "cropping", "upsampling", "padding", "moving", "idle", "homogeneous"
)
_HOMOGENEOUS_ACTIVATIONS = (None, "leaky_relu", "linear", "relu")


def balance_units(model: Any) -> Any:
    """Returns the model with equal norms of what comes into a unit and what goes out.

    For a rectifier `relu(c z) = c relu(z)`, so weights can move from one side to the
    other without changing the outputs. Gradients of balanced layers are of one size.
    Units with a normalization behind them stay as they are.
    """
    graph = graph_keras.read(model)
    channels = channels_lib.analyze(graph)
    incoming, outgoing = np.zeros((2, channels.num_labels))
    free = np.zeros(channels.num_labels, bool)
    for group in channels.groups:
        if len(group.producers) == 1:
            free[group.labels] = True
    calls = [node.layer for node in graph.nodes]
    for node, wiring in zip(graph.nodes, channels.wirings, strict=True):
        layer = graph.layer_of(node)
        took, made = _ends(layer, wiring)
        is_plain = layer.config.get("activation") in _HOMOGENEOUS_ACTIVATIONS
        if took is not None and made is not None and calls.count(layer.name) == 1:
            kernel, bias = _squares(layer)
            np.add.at(outgoing, took, kernel.sum(axis=1))
            np.add.at(incoming, made, kernel.sum(axis=0) + bias)
            free[made] &= is_plain
        elif not _is_homogeneous(layer):
            for ref in node.inputs:
                free[channels.wirings[ref.node].outputs[ref.port]] = False
    free &= (incoming > 0) & (outgoing > 0)
    factors = np.ones(channels.num_labels)
    factors[free] = (outgoing[free] / incoming[free]) ** 0.25
    changed = {}
    for node, wiring in zip(graph.nodes, channels.wirings, strict=True):
        took, made = _ends(graph.layer_of(node), wiring)
        if took is not None and made is not None:
            layer = _scaled(
                graph.layer_of(node), 1.0 / factors[took], outside=factors[made]
            )
            changed[node.layer] = layer
    return graph_keras.write(graph.with_layers(changed), graph_keras.keras_of(model))


def _ends(layer: ir.Layer, wiring: Any) -> tuple[Any, Any]:
    """Returns the labels of a kernel's inputs and outputs, None where it has none."""
    is_ours = layer.op in _KERNELS and "kernel" in wiring.weights
    if not is_ours or layer.config.get("groups", 1) != 1:
        return None, None
    ends = wiring.weights["kernel"][-2:]
    return ends[::-1] if layer.op.endswith("Transpose") else ends


def _squares(layer: ir.Layer) -> tuple[ir.Array, ir.Array]:
    """Returns the squares of a kernel as [inputs, outputs], and those of the bias."""
    kernel = _matrices(layer, layer.weights["kernel"].astype(np.float64))
    bias = layer.weights.get("bias", np.zeros(1)).astype(np.float64)
    return (kernel**2).reshape(-1, *kernel.shape[-2:]).sum(axis=0), bias**2


def _matrices(layer: ir.Layer, kernel: ir.Array) -> ir.Array:
    """Returns a kernel as [..., inputs, outputs], or back."""
    return np.swapaxes(kernel, -1, -2) if layer.op.endswith("Transpose") else kernel


def _scaled(layer: ir.Layer, inside: ir.Array, *, outside: ir.Array) -> ir.Layer:
    weights = dict(layer.weights)
    kernel = _matrices(layer, weights["kernel"]) * inside[:, None] * outside
    weights["kernel"] = _matrices(layer, kernel).astype(weights["kernel"].dtype)
    if "bias" in weights:
        weights["bias"] = (weights["bias"] * outside).astype(weights["bias"].dtype)
    return dataclasses.replace(layer, weights=weights)


def _is_homogeneous(layer: ir.Layer) -> bool:
    config = layer.config
    if layer.op == "Activation":
        return config.get("activation") in _HOMOGENEOUS_ACTIVATIONS
    if layer.op == "ReLU":
        return config.get("max_value") is None and not config.get("threshold")
    return layer.op in _HOMOGENEOUS
