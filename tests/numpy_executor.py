"""Computes a graph with numpy: an independent truth for everything that edits graphs.

It shares no code with `tfslim` but the graph's values, and it is itself checked
against Keras. Slow and plain on purpose; float64 throughout.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from tfslim.graph import ir


def execute(graph: ir.Graph, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the graph's outputs for one batch of each input, in order."""
    values: dict[ir.TensorRef, np.ndarray] = {
        ref: np.asarray(value, np.float64)
        for ref, value in zip(graph.input_refs, inputs, strict=True)
    }
    for number, node in enumerate(graph.nodes):
        layer = graph.layers[node.layer]
        if layer.op == "Input":
            continue
        results = _OPS[layer.op](layer, *(values[ref] for ref in node.inputs))
        if not isinstance(results, list):
            results = [results]
        for port, result in enumerate(results):
            shape = node.shapes[port]
            if layer.op != "Constant":
                assert result.shape[1:] == shape[1:], (layer.name, result.shape, shape)
            values[ir.TensorRef(number, port)] = result
    return [values[ref] for ref in graph.output_refs]


def _activation(name: str | None, x: np.ndarray) -> np.ndarray:
    if name in (None, "linear"):
        return x
    if name == "softmax":
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    return _UNARY[name](x)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


_erf = np.vectorize(math.erf, otypes=[np.float64])
_UNARY = {
    "abs": np.abs,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "exp": np.exp,
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_sigmoid_legacy": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "negative": np.negative,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.logaddexp(x, 0),
    "square": np.square,
    "tanh": np.tanh,
}


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _windows(x, kernel, strides, dilation, padding, value=0.0):
    """Yields (kernel index, the input each output position sees there)."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "same":
        pads = [
            _same_padding(n, k, s)
            for n, k, s in zip(x.shape[1:-1], spans, strides, strict=True)
        ]
        x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)
    outs = [
        (n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], spans, strides, strict=True)
    ]
    for index in itertools.product(*map(range, kernel)):
        cuts = [
            slice(i * d, i * d + (o - 1) * s + 1, s)
            for i, d, o, s in zip(index, dilation, outs, strides, strict=True)
        ]
        yield index, x[(slice(None), *cuts)]


def _list(value, ndim):
    return list(value) if isinstance(value, list | tuple) else [value] * ndim


def _options(layer, ndim):
    strides = _list(layer.config["strides"], ndim)
    # tf_keras keeps the stride of a depthwise convolution as one pair.
    return (
        strides,
        _list(layer.config.get("dilation_rate", 1), ndim),
        layer.config["padding"],
    )


def _finish(layer, y):
    if "bias" in layer.weights:
        y = y + layer.weights["bias"]
    return _activation(layer.config.get("activation"), y)


def _conv(layer, x):
    kernel = layer.weights["kernel"].astype(np.float64)
    spatial = kernel.shape[:-2]
    groups = layer.config.get("groups", 1)
    parts = []
    for part, weights in zip(
        np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True
    ):
        windows = _windows(part, spatial, *_options(layer, len(spatial)))
        parts.append(sum(seen @ weights[index] for index, seen in windows))
    return _finish(layer, np.concatenate(parts, axis=-1))


def _depthwise(layer, x, *, finish=True):
    kernel = layer.weights["depthwise_kernel"].astype(np.float64)
    spatial = kernel.shape[:-2]
    y = sum(
        seen[..., None] * kernel[index]
        for index, seen in _windows(x, spatial, *_options(layer, len(spatial)))
    )
    y = y.reshape(*y.shape[:-2], -1)
    return _finish(layer, y) if finish else y


def _separable(layer, x):
    y = _depthwise(layer, x, finish=False)
    pointwise = layer.weights["pointwise_kernel"]
    return _finish(layer, y @ pointwise.reshape(pointwise.shape[-2:]))


def _transposed(layer, x):
    kernel = layer.weights["kernel"].astype(np.float64)
    spatial = kernel.shape[:-2]
    strides, _, padding = _options(layer, len(spatial))
    sizes = [
        (n - 1) * s + max(k, s)
        for n, s, k in zip(x.shape[1:-1], strides, spatial, strict=True)
    ]
    y = np.zeros((len(x), *sizes, kernel.shape[-2]))
    for index in itertools.product(*map(range, spatial)):
        cuts = [
            slice(i, i + (n - 1) * s + 1, s)
            for i, n, s in zip(index, x.shape[1:-1], strides, strict=True)
        ]
        y[(slice(None), *cuts)] += x @ kernel[index].T
    if padding == "same":
        cuts = []
        for n, s, k in zip(x.shape[1:-1], strides, spatial, strict=True):
            before = max(k - s, 0) // 2
            cuts.append(slice(before, before + n * s))
        y = y[(slice(None), *cuts)]
    return _finish(layer, y)


def _dense(layer, x):
    return _finish(layer, x @ layer.weights["kernel"])


def _batch_norm(layer, x):
    axis = layer.config["axis"] % x.ndim
    shape = [1] * x.ndim
    shape[axis] = -1
    w = {name: v.astype(np.float64).reshape(shape) for name, v in layer.weights.items()}
    y = (x - w["moving_mean"]) / np.sqrt(w["moving_variance"] + layer.config["epsilon"])
    return y * w.get("gamma", 1.0) + w.get("beta", 0.0)


def _layer_norm(layer, x):
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    y = (x - mean) / np.sqrt(var + layer.config["epsilon"])
    return y * layer.weights.get("gamma", 1.0) + layer.weights.get("beta", 0.0)


def _relu(layer, x):
    top = layer.config.get("max_value")
    slope = layer.config.get("negative_slope") or 0.0
    y = np.where(x > 0, x, slope * x)
    return y if top is None else np.minimum(y, top)


def _pool(reduce):
    def pool(layer, x):
        kernel = _list(layer.config["pool_size"], x.ndim - 2)
        strides = _list(layer.config["strides"] or kernel, x.ndim - 2)
        ones = [1] * len(kernel)
        seen = [
            part
            for _, part in _windows(
                x, kernel, strides, ones, layer.config["padding"], np.nan
            )
        ]
        return reduce(np.stack(seen), axis=0)

    return pool


def _global(reduce):
    def pool(layer, x):
        axes = tuple(range(1, x.ndim - 1))
        return reduce(x, axis=axes, keepdims=bool(layer.config.get("keepdims")))

    return pool


def _reduction(reduce):
    def call(layer, x):
        axes = tuple(layer.config["axis"])
        return reduce(x, axis=axes, keepdims=layer.config["keepdims"])

    return call


def _merge(function):
    def merge(layer, *xs):
        ndim = max(x.ndim for x in xs)
        xs = [x.reshape(x.shape[0], *(1,) * (ndim - x.ndim), *x.shape[1:]) for x in xs]
        result = xs[0]
        for x in xs[1:]:
            result = function(result, x)
        return result

    return merge


def _average(layer, *xs):
    return _merge(np.add)(layer, *xs) / len(xs)


def _concatenate(layer, *xs):
    return np.concatenate(xs, axis=layer.config["axis"])


def _pad_positions(layer, x):
    pads = layer.config["padding"]
    pads = [(p, p) if isinstance(p, int) else tuple(p) for p in _list(pads, x.ndim - 2)]
    return np.pad(x, [(0, 0), *pads, (0, 0)])


def _upsample(layer, x):
    for axis, factor in enumerate(_list(layer.config["size"], x.ndim - 2), start=1):
        x = np.repeat(x, factor, axis=axis)
    return x


def _getitem(layer, x):
    key = layer.config["key"]
    return x[tuple(slice(*e) if isinstance(e, list) else e for e in key)]


def _pad(layer, x):
    return np.pad(x, layer.config["paddings"], constant_values=layer.config["value"])


def _split(layer, x):
    return np.split(x, np.cumsum(layer.config["sizes"])[:-1], axis=layer.config["axis"])


def _prelu(layer, x):
    return np.where(x > 0, x, layer.weights["alpha"] * x)


_BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
_OPS = {
    "Activation": lambda layer, x: _activation(layer.config["activation"], x),
    "Add": _merge(np.add),
    "Average": _average,
    "AveragePooling2D": _pool(np.nanmean),
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Constant": lambda layer: layer.weights["value"].astype(np.float64),
    "Conv1D": _conv,
    "Conv2D": _conv,
    "Conv2DTranspose": _transposed,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": lambda layer, x: x,
    "Flatten": lambda layer, x: x.reshape(len(x), -1),
    "GlobalAveragePooling2D": _global(np.mean),
    "GlobalMaxPooling2D": _global(np.max),
    "LayerNormalization": _layer_norm,
    "LeakyReLU": lambda layer, x: np.where(
        x > 0, x, layer.config["negative_slope"] * x
    ),
    "MaxPooling2D": _pool(np.nanmax),
    "Maximum": _merge(np.maximum),
    "Minimum": _merge(np.minimum),
    "Multiply": _merge(np.multiply),
    "PReLU": _prelu,
    "Permute": lambda layer, x: np.transpose(x, [0, *layer.config["dims"]]),
    "ReLU": _relu,
    "Rescaling": lambda layer, x: x * layer.config["scale"] + layer.config["offset"],
    "Reshape": lambda layer, x: x.reshape(len(x), *layer.config["target_shape"]),
    "SeparableConv2D": _separable,
    "Subtract": _merge(np.subtract),
    "UpSampling2D": _upsample,
    "ZeroPadding2D": _pad_positions,
    "clip": lambda layer, x: np.clip(
        x, layer.config["minimum"], layer.config["maximum"]
    ),
    "concatenate": _concatenate,
    "expand_dims": lambda layer, x: np.expand_dims(x, layer.config["axis"]),
    "getitem": _getitem,
    "max": _reduction(np.max),
    "mean": _reduction(np.mean),
    "pad": _pad,
    "reshape": lambda layer, x: x.reshape(layer.config["shape"]),
    "split": _split,
    "squeeze": lambda layer, x: np.squeeze(x, tuple(layer.config["axis"])),
    "sum": _reduction(np.sum),
    "transpose": lambda layer, x: np.transpose(x, layer.config["axes"]),
}
_OPS |= {
    name: lambda layer, x, function=function: function(x)
    for name, function in _UNARY.items()
}
_OPS |= {
    name: lambda layer, x, y, function=function: function(x, y)
    for name, function in _BINARY.items()
}
