"""INT8 inference in numpy int64, written from the LiteRT 8-bit specification.

https://ai.google.dev/edge/litert/models/quantization_spec. Starts from float weights
and float activations, never from a `.tflite`: activations INT8 per tensor, asymmetric,
0 exactly representable; weights INT8 per output channel in [-127, 127], zero point 0;
biases INT32 with scale input_scale * weight_scale. Accumulators are exact; where the
runtime multiplies by a fixed-point or float32 factor, this multiplies in float64.

What the specification leaves open is a property of the kernels, `Kernels`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class Quantized:
    """real = scale * (q - zero_point)."""

    q: np.ndarray
    scale: float
    zero_point: int


def activation_params(values):
    """Scale and zero point for values seen, 0 included."""
    low, high = min(float(np.min(values)), 0.0), max(float(np.max(values)), 0.0)
    scale = (high - low) / 255
    return scale, int(np.rint(-128 - low / scale))


def quantize(real, scale, zero_point):
    q = np.clip(np.rint(real / np.float64(scale)) + zero_point, -128, 127)
    return Quantized(q.astype(np.int64), scale, zero_point)


def _weights(kernel, bias, input_scale, channel_axis):
    others = tuple(i for i in range(kernel.ndim) if i != channel_axis)
    scale = np.abs(kernel).max(axis=others, keepdims=True).astype(np.float64) / 127
    q = np.clip(np.rint(kernel / scale), -127, 127).astype(np.int64)
    scale = scale.reshape(-1)
    return q, scale, np.rint(bias / (input_scale * scale)).astype(np.int64)


def _patches(x, size, stride):
    """Cuts [height, width, channels] into 'same' windows [oh, ow, size, size, c].

    The border holds the zero point, the real 0; with stride 2 the odd row and column
    go to the end.
    """
    height, width, _ = x.q.shape
    out = [-(-n // stride) for n in (height, width)]
    pads = [
        max((o - 1) * stride + size - n, 0)
        for o, n in zip(out, (height, width), strict=True)
    ]
    padded = np.pad(
        x.q,
        [(p // 2, p - p // 2) for p in pads] + [(0, 0)],
        constant_values=x.zero_point,
    )
    rows = [
        [
            padded[i * stride : i * stride + size, j * stride : j * stride + size]
            for j in range(out[1])
        ]
        for i in range(out[0])
    ]
    return np.array(rows) - x.zero_point


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The ops, for one kind of kernel.

    Attributes:
        round: to the nearest integer; how it breaks ties differs.
        rounds_mean_offset: whether MEAN rounds the zero points' part of its sum apart
            from the rest, which puts it one step off now and then.
    """

    round: Callable[[np.ndarray], np.ndarray]
    rounds_mean_offset: bool

    def requantize(self, accumulator, factor, params, *, low=-np.inf, high=np.inf):
        """Scales an exact sum to the output's grid, cut as a fused ReLU cuts."""
        scale, zero_point = params
        q = self.round(accumulator * factor / scale) + zero_point
        q = np.maximum(q, max(-128, np.rint(low / scale) + zero_point))
        q = np.minimum(q, min(127, np.rint(high / scale) + zero_point))
        return Quantized(q.astype(np.int64), scale, zero_point)

    def conv(self, x, kernel, bias, params, *, stride=1, **limits):
        """`kernel` is [height, width, in, out], as Keras has it."""
        q, scale, offset = _weights(kernel, bias, x.scale, 3)
        windows = _patches(x, kernel.shape[0], stride)
        accumulator = np.einsum("ijhwc,hwco->ijo", windows, q) + offset
        return self.requantize(accumulator, x.scale * scale, params, **limits)

    def depthwise(self, x, kernel, bias, params, **limits):
        """`kernel` [height, width, channels, 1]."""
        q, scale, offset = _weights(kernel[..., 0], bias, x.scale, 2)
        accumulator = np.einsum("ijhwc,hwc->ijc", _patches(x, kernel.shape[0], 1), q)
        return self.requantize(accumulator + offset, x.scale * scale, params, **limits)

    def add(self, a, b, params):
        real = a.scale * (a.q - a.zero_point) + b.scale * (b.q - b.zero_point)
        return self.requantize(real, 1.0, params)

    def mean(self, x, params):
        factor = x.scale / (x.q.shape[0] * x.q.shape[1])
        total = (x.q - x.zero_point).sum(axis=(0, 1))
        if not self.rounds_mean_offset:
            return self.requantize(total, factor, params)
        scale, zero_point = params
        offset = int(self.round(x.zero_point * x.scale / scale))
        shifted = (scale, zero_point - offset)
        q = self.requantize(x.q.sum(axis=(0, 1)), factor, shifted).q
        return Quantized(q, scale, zero_point)

    def dense(self, x, kernel, bias, params):
        """`kernel` [in, out]."""
        q, scale, offset = _weights(kernel, bias, x.scale, 1)
        return self.requantize(
            (x.q - x.zero_point) @ q + offset, x.scale * scale, params
        )


# Ties to even; the builtin kernels' fixed-point product adds a half and drops the rest.
XNNPACK = Kernels(np.rint, rounds_mean_offset=False)
BUILTIN = Kernels(lambda x: np.floor(x + 0.5), rounds_mean_offset=True)
