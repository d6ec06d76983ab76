"""What a convolution or Dense layer sums over at chosen positions of its output."""

from __future__ import annotations

import numpy as np

from tfslim.graph import ir
from tfslim.pruning import places

# The layers whose kernel is a matrix from the patch of a position to its outputs.
OPS = ("Conv2D", "Dense")


def why_not(layer: ir.Layer, calls: places.Places) -> str | None:
    """Returns why a layer is not fitted, None if it can be."""
    if layer.op not in OPS:
        return f"{layer.op} is not fitted"
    if layer.config.get("groups", 1) != 1:
        return "has groups"
    return None if calls.is_called_once(layer.name) else "is called more than once"


def num_positions(layer: ir.Layer, inputs: ir.Array) -> int:
    """Returns at how many positions the layer gives outputs, samples included."""
    if layer.op == "Dense":
        return inputs.size // inputs.shape[-1]
    inputs = _channels_last(layer, inputs)
    axes = [_axis(layer, inputs, axis=axis) for axis in (0, 1)]
    return len(inputs) * int(np.prod([count for count, _ in axes]))


def matrix(kernel: ir.Array) -> ir.Array:
    """Returns a kernel as [unknowns, outputs]."""
    return kernel.reshape(-1, kernel.shape[-1])


def outputs(layer: ir.Layer, tensor: ir.Array) -> ir.Array:
    """Returns [positions, channels]: a tensor of the form of the layer's output."""
    tensor = _channels_last(layer, tensor)
    return tensor.reshape(-1, tensor.shape[-1])


def patches(layer: ir.Layer, inputs: ir.Array, *, positions: ir.Array) -> ir.Array:
    """Returns [positions, unknowns]: what each output there sums over."""
    if layer.op == "Dense":
        return inputs.reshape(-1, inputs.shape[-1])[positions]
    inputs = _channels_last(layer, inputs)
    counts, before = zip(
        *(_axis(layer, inputs, axis=axis) for axis in (0, 1)), strict=True
    )
    places = np.unravel_index(positions, (len(inputs), *counts))
    taken, is_inside = [], np.ones(1, bool)
    for axis in (0, 1):
        offsets = np.arange(layer.config["kernel_size"][axis])
        offsets = offsets * layer.config["dilation_rate"][axis] - before[axis]
        starts = places[1 + axis] * layer.config["strides"][axis]
        # [positions, height, 1] and [positions, 1, width].
        index = np.expand_dims(starts[:, None] + offsets, 2 - axis)
        is_inside = is_inside & (index >= 0) & (index < inputs.shape[1 + axis])
        taken.append(index.clip(0, inputs.shape[1 + axis] - 1))
    found = inputs[places[0][:, None, None], taken[0], taken[1]]
    return np.where(is_inside[..., None], found, 0).reshape(len(positions), -1)


def _channels_last(layer: ir.Layer, tensor: ir.Array) -> ir.Array:
    if layer.config.get("data_format") == "channels_first" and layer.op != "Dense":
        return np.moveaxis(tensor, 1, -1)
    return tensor


def _axis(layer: ir.Layer, inputs: ir.Array, *, axis: int) -> tuple[int, int]:
    """Returns the number of outputs along an axis, and the zeros before the first."""
    size = inputs.shape[1 + axis]
    stride, kernel, rate = (
        layer.config[name][axis] for name in ("strides", "kernel_size", "dilation_rate")
    )
    reach = (kernel - 1) * rate + 1
    if layer.config["padding"] == "valid":
        return (size - reach) // stride + 1, 0
    count = -(-size // stride)
    return count, max((count - 1) * stride + reach - size, 0) // 2
