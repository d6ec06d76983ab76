"""Layers and graphs made by hand, without any Keras."""

import numpy as np

from tfslim.graph import ir


def low_rank(rng, shape, rank_in, rank_out):
    """A random kernel [..., in, out] of exactly these ranks on its last two axes.

    Inputs of variance 1 give outputs of variance 1.
    """
    *window, inputs, outputs = shape
    core = rng.normal(size=(*window, rank_in, rank_out))
    first = rng.normal(size=(inputs, rank_in))
    second = rng.normal(size=(rank_out, outputs))
    kernel = first @ core @ second
    return (kernel * np.sqrt(outputs) / np.linalg.norm(kernel)).astype(np.float32)


def dense(name, kernel, *, activation="tanh"):
    bias = np.linspace(-1, 1, kernel.shape[1], dtype=np.float32)
    config = {
        "units": kernel.shape[1],
        "activation": activation,
        "use_bias": True,
        "dtype": "float32",
        "kernel_constraint": {"class_name": "MaxNorm"},
    }
    return ir.Layer(name, "Dense", config, {"kernel": kernel, "bias": bias})


def conv(name, kernel, *, op="Conv2D", activation="tanh", groups=1, **config):
    """A convolution; `kernel` as Keras has it: [..., out, in] if it is transposed."""
    ndim = kernel.ndim - 2
    filters = kernel.shape[-2 if op.endswith("Transpose") else -1]
    config = {
        "filters": filters,
        "kernel_size": list(kernel.shape[:-2]),
        "strides": [1] * ndim,
        "padding": "same",
        "dilation_rate": [1] * ndim,
        "data_format": "channels_last",
        "groups": groups,
        "activation": activation,
        "use_bias": True,
        "dtype": "float32",
        **config,
    }
    bias = np.linspace(-1, 1, filters, dtype=np.float32)
    return ir.Layer(name, op, config, {"kernel": kernel, "bias": bias})


def chain(*calls):
    """A graph of `(layer, output shape)` calls in a row; the first is an input shape.

    Shapes come without the batch axis. A layer that comes twice is shared.
    """
    shape, *calls = calls
    config = {"batch_shape": [None, *shape], "dtype": "float32"}
    layers = {"input": ir.Layer("input", "Input", config)}
    nodes = [ir.Node("input", (), ((None, *shape),))]
    for layer, shape in calls:
        layers[layer.name] = layer
        source = ir.TensorRef(len(nodes) - 1)
        nodes.append(ir.Node(layer.name, (source,), ((None, *shape),)))
    last = ir.TensorRef(len(nodes) - 1)
    return ir.Graph("chain", layers, tuple(nodes), ir.TensorRef(0), last)
