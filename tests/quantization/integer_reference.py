"""INT8 inference in numpy int64, written from the LiteRT 8-bit specification.

https://ai.google.dev/edge/litert/models/quantization_spec. Starts from float weights
and float activations, never from a `.tflite`: activations INT8 per tensor, asymmetric,
0 exactly representable; weights INT8 per output channel in [-127, 127], zero point 0;
biases INT32 with scale input_scale * weight_scale; accumulators are exact. How a sum is
brought to the output's scale the specification leaves open: see `Kernels`.
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


def scale_exactly(accumulator, factor):
    """Rounds once, ties to even, as XNNPACK's float32 multiplication does."""
    return np.rint(accumulator * factor)


def scale_by_fixed_point(accumulator, factor):
    """Multiplies by a 31-bit mantissa, rounds, shifts right, and rounds again.

    Jacob et al., CVPR 2018, https://arxiv.org/abs/1712.05877, section 2.2 and appendix
    B: the builtin kernels' arithmetic, ties away from zero.
    """
    mantissa, exponent = np.frexp(factor)
    multiplier = np.rint(mantissa * 2.0**31).astype(np.int64)
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    product = (accumulator << left) * multiplier
    high = np.sign(product) * ((np.abs(product) + 2**30) >> 31)
    half = np.where(right > 0, (1 << right) >> 1, 0)
    return np.sign(high) * ((np.abs(high) + half) >> right)


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The ops; `scale` multiplies an exact integer sum by a real factor."""

    scale: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def requantize(self, accumulator, factor, params, *, low=-np.inf, high=np.inf):
        """Takes an exact sum to the output's grid, cut as a fused ReLU cuts."""
        scale, zero_point = params
        q = self.scale(accumulator, np.float64(factor / scale)) + zero_point
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
        """`kernel` is [height, width, channels, 1]."""
        q, scale, offset = _weights(kernel[..., 0], bias, x.scale, 2)
        accumulator = np.einsum("ijhwc,hwc->ijc", _patches(x, kernel.shape[0], 1), q)
        return self.requantize(accumulator + offset, x.scale * scale, params, **limits)

    def add(self, a, b, params):
        """Sums reals: both kinds of kernel keep 20 bits more than the grid has."""
        real = a.scale * (a.q - a.zero_point) + b.scale * (b.q - b.zero_point)
        return quantize(real, *params)

    def mean(self, x, params):
        """Averages over height and width."""
        total = (x.q - x.zero_point).sum(axis=(0, 1))
        return self.requantize(total, x.scale / (x.q.shape[0] * x.q.shape[1]), params)

    def dense(self, x, kernel, bias, params):
        """`kernel` is [in, out]."""
        q, scale, offset = _weights(kernel, bias, x.scale, 1)
        accumulator = (x.q - x.zero_point) @ q + offset
        return self.requantize(accumulator, x.scale * scale, params)


XNNPACK = Kernels(scale_exactly)
BUILTIN = Kernels(scale_by_fixed_point)
