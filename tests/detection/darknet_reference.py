"""Darknet in numpy, after its C code and independent of tfslim: cfg, weights, layers.

Arrays are [channels, height, width], as Darknet has them.
"""

from __future__ import annotations

import math

import numpy as np


def read_cfg(text):
    sections = []
    for line in text.splitlines():
        line = "".join(line.split())
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            sections.append((line[1:-1], {}))
        else:
            key, value = line.split("=")
            sections[-1][1][key] = value
    return sections


class _Stream:
    def __init__(self, numbers):
        self.numbers, self.position = numbers, 0

    def take(self, *shape):
        count = math.prod(shape)
        self.position += count
        return self.numbers[self.position - count : self.position].reshape(shape)


def convolve(x, kernel, stride, pad, groups):
    """Loops over the places of the window, with the sums in float64."""
    filters, inputs, size, _ = kernel.shape
    channels, height, width = x.shape
    padded = np.zeros((channels, height + 2 * pad, width + 2 * pad))
    padded[:, pad : pad + height, pad : pad + width] = x
    rows = (height + 2 * pad - size) // stride + 1
    columns = (width + 2 * pad - size) // stride + 1
    out = np.zeros((filters, rows, columns))
    for f in range(filters):
        start = f // (filters // groups) * inputs
        for i in range(rows):
            for j in range(columns):
                window = padded[
                    start : start + inputs,
                    i * stride : i * stride + size,
                    j * stride : j * stride + size,
                ]
                out[f, i, j] = (window * kernel[f]).sum()
    return out


def maxpool(x, size, stride, padding):
    channels, height, width = x.shape
    rows = (height + padding - size) // stride + 1
    columns = (width + padding - size) // stride + 1
    out = np.full((channels, rows, columns), -np.inf)
    # C rounds the quotient of -padding / 2 toward zero.
    offset = -(padding // 2)
    for i in range(rows):
        for j in range(columns):
            for n in range(size):
                for m in range(size):
                    y, z = offset + i * stride + n, offset + j * stride + m
                    if 0 <= y < height and 0 <= z < width:
                        out[:, i, j] = np.maximum(out[:, i, j], x[:, y, z])
    return out


ACTIVATIONS = {
    "linear": lambda x: x,
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x / (1 + np.exp(-x)),
}


def forward(text, weights, image):
    """Returns the inputs of the [yolo] sections for an image [c, h, w]."""
    stream = _Stream(np.frombuffer(weights, "<f4", offset=20))
    outputs, found = [], []
    x = image.astype(np.float64)
    for kind, options in read_cfg(text)[1:]:
        number = {k: v for k, v in options.items() if v.lstrip("-").isdigit()}
        number = {k: int(v) for k, v in number.items()}
        if kind == "convolutional":
            x = _convolutional(stream, x, options, number)
        elif kind == "maxpool":
            size, stride = number.get("size", number["stride"]), number["stride"]
            x = maxpool(x, size, stride, number.get("padding", size - 1))
        elif kind == "shortcut":
            x = ACTIVATIONS[options["activation"]](x + outputs[number["from"]])
        elif kind == "upsample":
            x = np.repeat(np.repeat(x, number["stride"], 1), number["stride"], 2)
        elif kind == "route":
            groups, part = number.get("groups", 1), number.get("group_id", 0)
            parts = []
            for layer in options["layers"].split(","):
                source = outputs[int(layer)]
                size = len(source) // groups
                parts.append(source[part * size : (part + 1) * size])
            x = np.concatenate(parts)
        elif kind == "yolo":
            found.append(x)
        else:
            raise ValueError(kind)
        outputs.append(x)
    assert stream.position == len(stream.numbers)
    return found


def _convolutional(stream, x, options, number):
    filters, size, groups = number["filters"], number["size"], number.get("groups", 1)
    bias = stream.take(filters)
    has_norm = number.get("batch_normalize", 0)
    if has_norm:
        scales, mean, variance = (stream.take(filters) for _ in range(3))
    kernel = stream.take(filters, len(x) // groups, size, size)
    pad = size // 2 if number.get("pad", 0) else number.get("padding", 0)
    x = convolve(x, kernel.astype(np.float64), number["stride"], pad, groups)
    if has_norm:
        # blas_kernels.cu: (x - mean) / sqrt(variance + .00001f)
        deviation = np.sqrt(variance.astype(np.float64) + 1e-5)
        x = (x - mean[:, None, None]) / deviation[:, None, None]
        x = x * scales[:, None, None]
    x = x + bias[:, None, None]
    return ACTIVATIONS[options["activation"]](x)
