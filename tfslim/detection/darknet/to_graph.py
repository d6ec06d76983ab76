"""From a Darknet network to the layer graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfslim import errors
from tfslim.detection.darknet import network as net
from tfslim.detection.darknet.weights import ConvWeights
from tfslim.graph import ir
from tfslim.graph.editor import Editor

# Darknet's on the GPU; its CPU code adds 1e-6 to the deviation instead.
EPSILON = 1e-5


def to_graph(
    network: net.Network, weights: tuple[ConvWeights, ...], *, name: str
) -> ir.Graph:
    """Returns the graph of a network; layers are numbered as in the `.cfg`."""
    builder = _Builder(network, iter(weights))
    for index, layer in enumerate(network.layers):
        builder.add_layer(index, layer)
    graph = builder.editor.finish([builder.found[n] for n in network.outputs])
    return dataclasses.replace(graph, name=name, inputs=builder.found[-1])


class _Builder:
    """The nodes so far; `found` has the output of each layer of Darknet."""

    def __init__(self, network: net.Network, weights: Iterator[ConvWeights]):
        self._network = network
        self._weights = weights
        self.editor = Editor(ir.Graph("", {}, (), None, None))
        self.found: dict[int, ir.TensorRef] = {}
        shape = (None, *network.input_shape)
        config = {"batch_shape": list(shape), "dtype": "float32"}
        self.found[-1] = self._add(ir.Layer("input", "Input", config), (), shape)

    def _add(
        self, layer: ir.Layer, args: tuple[Any, ...], shape: ir.Shape
    ) -> ir.TensorRef:
        return self.editor.call(layer, args, (shape,))

    def add_layer(self, index: int, layer: net.Layer) -> None:
        inputs = [self.found[source] for source in layer.inputs]
        shape = (None, *layer.shape)
        op = layer.op
        match op:
            case net.Convolutional():
                out = self._convolution(index, op, x=inputs[0], shape=shape)
            case net.Shortcut():
                add = ir.Layer(f"shortcut_{index}", "Add")
                out = self._add(add, (inputs,), shape)
                out = self._activation(index, op.activation, out, shape)
            case net.Route():
                out = self._route(index, op, inputs, shape)
            case net.Upsample():
                sizes = {"size": [op.stride] * 2, "interpolation": "nearest"}
                resize = ir.Layer(f"upsample_{index}", "UpSampling2D", sizes)
                out = self._add(resize, (inputs[0],), shape)
            case net.Maxpool():
                out = self._maxpool(index, op, inputs[0], shape)
            case net.Yolo():
                return
        self.found[index] = out

    def _shape(self, ref: ir.TensorRef) -> tuple[int, int, int]:
        _, height, width, channels = self.editor.shape(ref)
        return height or 0, width or 0, channels or 0

    def _convolution(
        self, index: int, op: net.Convolutional, *, x: ir.TensorRef, shape: ir.Shape
    ) -> ir.TensorRef:
        pads = [
            _pads(side, out or 0, op=op)
            for side, out in zip(self._shape(x), shape[1:3], strict=False)
        ]
        padding = "valid"
        if op.stride == 1 and op.size == 2 * op.padding + 1:
            padding = "same"
        elif any(map(any, pads)):
            height, width, channels = self._shape(x)
            padded = (None, height + sum(pads[0]), width + sum(pads[1]), channels)
            pad = ir.Layer(f"pad_{index}", "ZeroPadding2D", {"padding": pads})
            x = self._add(pad, (x,), padded)
        weights = next(self._weights)
        config = {
            "filters": op.filters,
            "kernel_size": [op.size] * 2,
            "strides": [op.stride] * 2,
            "padding": padding,
            "groups": op.groups,
            "use_bias": weights.bias is not None,
        }
        arrays = {"kernel": weights.kernel.transpose(2, 3, 1, 0)}
        if weights.bias is not None:
            arrays["bias"] = weights.bias
        x = self._add(ir.Layer(f"conv_{index}", "Conv2D", config, arrays), (x,), shape)
        if weights.norm is not None:
            x = self._add(_batch_norm(index, weights.norm), (x,), shape)
        return self._activation(index, op.activation, x, shape)

    def _activation(
        self, index: int, name: str, x: ir.TensorRef, shape: ir.Shape
    ) -> ir.TensorRef:
        if name == "linear":
            return x
        if name == "leaky":
            layer = ir.Layer(f"leaky_{index}", "LeakyReLU", {"negative_slope": 0.1})
        else:
            config = {"activation": net.ACTIVATIONS[name]}
            layer = ir.Layer(f"{name}_{index}", "Activation", config)
        return self._add(layer, (x,), shape)

    def _route(
        self, index: int, op: net.Route, inputs: list[ir.TensorRef], shape: ir.Shape
    ) -> ir.TensorRef:
        parts = inputs
        if op.groups > 1:
            parts = []
            for number, x in enumerate(inputs):
                height, width, channels = self._shape(x)
                size = channels // op.groups
                whole = [None, None, None]
                start = op.group_id * size
                key = [whole, whole, whole, [start, start + size, None]]
                part = ir.Layer(f"route_{index}_{number}", "getitem", {"key": key})
                parts.append(self._add(part, (x,), (None, height, width, size)))
        if len(parts) == 1:
            return parts[0]
        concat = ir.Layer(f"route_{index}", "Concatenate", {"axis": -1})
        return self._add(concat, (parts,), shape)

    def _maxpool(
        self, index: int, op: net.Maxpool, x: ir.TensorRef, shape: ir.Shape
    ) -> ir.TensorRef:
        paddings = {_pool_padding(side, op) for side in self._shape(x)[:2]}
        if len(paddings) > 1 or None in paddings:
            raise errors.GraphError(
                f"[maxpool] of layer {index} pads {op.padding} pixels around "
                f"{self._shape(x)[:2]}, which Keras has no layer for. Use an image "
                "size at which each pooling divides, or another padding."
            )
        config = {
            "pool_size": [op.size] * 2,
            "strides": [op.stride] * 2,
            "padding": paddings.pop(),
        }
        layer = ir.Layer(f"maxpool_{index}", "MaxPooling2D", config)
        return self._add(layer, (x,), shape)


def _pads(side: int, out: int, *, op: net.Convolutional) -> list[int]:
    """Returns the zeros before and after one side, as many as the windows touch."""
    after = (out - 1) * op.stride + op.size - side - op.padding
    return [op.padding, max(0, after)]


def _pool_padding(side: int, op: net.Maxpool) -> str | None:
    """Returns the word of Keras for Darknet's padding of one side, if it has one."""
    out = (side + op.padding - op.size) // op.stride + 1
    before, total = op.padding // 2, (out - 1) * op.stride + op.size - side
    if before == 0 and total <= 0:
        return "valid"
    # TensorFlow: as many outputs as strides begin, the odd pixel behind.
    is_same = out == -(-side // op.stride) and before == max(total, 0) // 2
    return "same" if is_same else None


def _batch_norm(index: int, arrays: Mapping[str, np.ndarray]) -> ir.Layer:
    config = {"axis": -1, "epsilon": EPSILON, "momentum": 0.99}
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return ir.Layer(
        f"bn_{index}",
        "BatchNormalization",
        config,
        {name: arrays[name] for name in names},
        frozenset(["moving_mean", "moving_variance"]),
    )
