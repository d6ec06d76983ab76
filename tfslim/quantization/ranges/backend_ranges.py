"""Ranges as litert-quantizer takes them; biases and silent channels stay alive.

A bias is INT32 with scale input_scale * weight_scale. Where a channel's weights are
all zero (pruned, or a batch norm with gamma 0) or tiny beside its bias, that scale is
so small that the bias does not fit and is clipped: the channel's constant is lost, and
XNNPACK refuses the whole op for its extreme scale. Widening the range of such a
channel's weights costs nothing and mends both; TensorFlow's converter does so too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import ops, tflite
from tfslim.quantization import backend
from tfslim.quantization.ranges.collect import activations
from tfslim.quantization.rules.kept_float import scope
from tfslim.quantization.rules.recipe import deciding

# Half of INT32: the input's scale may still be narrowed a little by its neighbours.
_MAX_BIAS = 2.0**30


def for_backend(
    graph: tflite.Graph,
    ranges: Mapping[str, tuple[float, float]],
    *,
    rules: backend.Rules,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Puts ranges into the shape that litert-quantizer multiplies with tensors.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of its activations.
        rules: that they are for.
    """
    alive = {
        name: bounds if any(bounds) else (0.0, 1.0) for name, bounds in ranges.items()
    }
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for tensor in activations(graph):
        shape, (low, high) = (1,) * len(tensor.shape), alive[tensor.name]
        values[tensor.name] = np.full(shape, low), np.full(shape, high)
    for name, bound in weight_ranges(graph, alive, rules=rules).items():
        values[name] = -bound, bound
    return values


def weight_ranges(
    graph: tflite.Graph,
    ranges: dict[str, tuple[float, float]],
    *,
    rules: backend.Rules = (),
) -> dict[str, np.ndarray]:
    """Chooses the weight ranges that differ from the weights' own extremes.

    Args:
        graph: the float model's graph.
        ranges: tensor name -> (min, max) of every activation.
        rules: the rules, which say how many bits an op's activations have. With 16
            litert-quantizer (0.11) writes biases as INT64 but clips them to INT32.

    Returns:
        Weight tensor's name -> float32 array, the largest absolute value per output
        channel, shaped to broadcast against the weights; only tensors with a channel
        that needs it.
    """
    bounds: dict[str, np.ndarray] = {}
    for op in graph.ops:
        if op.name not in ops.WEIGHTS:
            continue
        source, weight, bias, axis = ops.WEIGHTS[op.name]
        tensor = graph.tensors[op.inputs[weight]]
        data = tensor.data
        if data is None or data.dtype != np.float32:
            continue
        others = tuple(i for i in range(data.ndim) if i != axis)
        bound = np.abs(data).max(axis=others, keepdims=True).astype(np.float64)
        wanted = np.maximum(bound, _least(bound))
        if len(op.inputs) > bias and op.inputs[bias] >= 0:
            offsets = graph.tensors[op.inputs[bias]].data
            if offsets is not None:
                read = ranges[graph.tensors[op.inputs[source]].name]
                rule = deciding(rules, op.name, scope=scope(op, graph))
                scale = _scale(read, _bits(rule or {}))
                needed = 127.0 * np.abs(offsets) / (scale * _MAX_BIAS)
                wanted = np.maximum(wanted, needed.reshape(bound.shape))
        if tensor.name in bounds:  # Weights that two ops share.
            wanted = np.maximum(wanted, bounds[tensor.name])
        if (wanted > bound).any():
            bounds[tensor.name] = wanted.astype(np.float32)
    return bounds


def _least(bound: np.ndarray) -> np.ndarray:
    """A silent channel gets the layer's own range; an all-silent layer gets 1."""
    layer = bound.max()
    return np.where(bound == 0.0, layer if layer > 0.0 else 1.0, 0.0)


def _bits(rule: Mapping[str, Any]) -> int:
    config = rule.get("op_config", {}).get("activation_tensor_config") or {}
    return int(config.get("num_bits", 8))


def _scale(bounds: tuple[float, float], bits: int) -> float:
    low, high = bounds
    if bits == 16:  # Symmetric.
        return max(high, -low) / (2**15 - 1)
    return (max(high, 0.0) - min(low, 0.0)) / 255.0
