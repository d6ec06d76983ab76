"""Bias correction: takes out of every layer the shift that quantization brings.

Rounded weights, and inputs that earlier layers have shifted or clipped, change a
channel's mean. The difference of the means, before the activation, is

    sum over taps and inputs of W' * E[x'] - W * E[x],

with W', x' as the quantized file has them; it is subtracted from the float bias. Taps
that fall into the padding count for the share of positions where they do not.
Source: Nagel et al., "Data-free quantization through weight equalization and bias
correction", ICCV 2019, https://arxiv.org/abs/1906.04721, section 4.2, with measured
means in place of those assumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfslim import checks, registry, tflite
from tfslim.quantization.ranges.collect import Samples, collect, kept_singles
from tfslim.quantization.repair.moments import Mean
from tfslim.quantization.repair.weights import MatchedLayer, match_layers, write_bias
from tfslim.quantization.rules.preprocess_model import prepare
from tfslim.tflite import flatbuffer
from tfslim.tflite.interpreter import named_inputs

# "fast" takes E[x'] = E[x], one pass for all layers; "full" measures E[x'] layer by
# layer, in order, in the file whose earlier layers are corrected already.
MODES = ("fast", "full")


@dataclasses.dataclass(frozen=True, eq=False)
class Shift:
    """What was corrected in one layer.

    Attributes:
        tensor: name of its output.
        largest: the largest correction of a channel, in the output's unit.
    """

    tensor: str
    largest: float


@checks.by_name
def correct_biases(
    quantized: bytes,
    model: bytes,
    *,
    samples: Samples,
    mode: str = "full",
    known: Mapping[str, Mean] | None = None,
    leave: Collection[str] = (),
) -> tuple[bytes, list[Shift]]:
    """Sets the INT32 biases of a static INT8 file anew.

    Args:
        quantized: the file made from `model`; it is not changed.
        model: the float `.tflite`.
        samples: about 64; all are kept in memory.
        mode: one of `MODES`.
        known: tensor that a layer reads -> its mean, gathered before; None: it is.
        leave: outputs of layers to leave alone.

    Returns:
        The corrected file, and a row for each layer corrected. Layers in float and
        such without a bias are left alone.

    Raises:
        ConfigError: no such mode, or a sample that does not fit.
    """
    if mode not in MODES:
        raise registry.unknown_name("bias correction", mode, known=MODES)
    source = prepare(model)
    kept = kept_singles(samples, tflite.read(source))
    source = tflite.sized_for(source, kept[0])
    before, after = tflite.read(source), tflite.read(quantized)
    layers = [
        (matched, layer)
        for matched in match_layers(before.graphs[0], after.graphs[0])
        if matched.output.name not in leave
        and (layer := _layer(matched, after.graphs[0])) is not None
    ]
    if not layers:
        return quantized, []
    means = known or collect(source, kept, statistic=Mean)[0]
    flat = flatbuffer.unpack(quantized)
    shifts = []
    for matched, layer in layers:
        mean = means[matched.source.name].value
        if mode == "full":
            current = flatbuffer.pack(flat)
            shifted = _quantized_mean(current, kept, tensor=layer.source)
            change = layer.response(layer.rounded, shifted)
            change -= layer.response(layer.weights, mean)
        else:
            change = layer.response(layer.rounded - layer.weights, mean)
        write_bias(flat, layer.op, bias=layer.bias, values=layer.offset - change)
        shifts.append(Shift(matched.output.name, float(np.abs(change).max())))
    attached = flatbuffer.attached_files(quantized)
    flatbuffer.drop_unused(flat)
    return flatbuffer.pack(flat, attached=attached), shifts


@dataclasses.dataclass(frozen=True, eq=False)
class _Layer:
    """An op with weights, in both files; `weights` and `rounded` are [out, h, w, in].

    Of a depthwise one they are [1, h, w, channels]. `op` is its place in the
    quantized file, `source` its input and `bias` its bias there, `offset` that of the
    float file.
    """

    op: int
    source: tflite.Tensor
    bias: tflite.Tensor
    offset: np.ndarray
    weights: np.ndarray
    rounded: np.ndarray
    coverage: np.ndarray
    is_depthwise: bool

    def response(self, weights: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Returns the mean output [out] for inputs of `mean` [in]."""
        if self.is_depthwise:
            summed = np.einsum("yxc,yx->c", weights[0], self.coverage)
            return summed * np.repeat(mean, len(summed) // len(mean))
        summed = np.einsum("oyxi,yx->oi", weights, self.coverage)
        groups = len(mean) // summed.shape[1]
        grouped = summed.reshape(groups, -1, summed.shape[1])
        return (grouped * mean.reshape(groups, 1, -1)).sum(axis=2).reshape(-1)


def _layer(matched: MatchedLayer, after: tflite.Graph) -> _Layer | None:
    """Reads a layer of both files; None if it is float in one that is quantized."""
    data, stored = matched.weights, matched.stored
    bias, offset = matched.bias, matched.offset
    if data is None or stored is None or bias is None or offset is None:
        return None
    source = after.tensors[matched.matched.inputs[0]]
    if (source.dtype, bias.dtype) != ("int8", "int32"):
        return None
    op, before, rounded = matched.op, matched.source, stored.values * stored.scale
    if op.name == "FULLY_CONNECTED":
        if before.shape[-1] != data.shape[-1]:
            return None
        data, rounded = data[:, None, None, :], rounded[:, None, None, :]
    return _Layer(
        op=matched.matched.index,
        source=source,
        bias=bias,
        offset=offset,
        weights=data.astype(np.float64),
        rounded=rounded,
        coverage=_coverage(
            op, before.shape, output=matched.output.shape, weights=data.shape
        ),
        is_depthwise=op.name == "DEPTHWISE_CONV_2D",
    )


def _coverage(
    op: tflite.Op,
    source: tuple[int, ...],
    *,
    output: tuple[int, ...],
    weights: tuple[int, ...],
) -> np.ndarray:
    """Returns the share of positions [h, w] at which a tap lies inside the input."""
    if op.name == "FULLY_CONNECTED":
        return np.ones((1, 1))
    options = op.options
    shares = []
    for axis, stride, dilation in (
        (1, options.strideH, options.dilationHFactor),
        (2, options.strideW, options.dilationWFactor),
    ):
        taps = np.arange(weights[axis]) * dilation
        padding = 0
        if options.padding == schema.Padding.SAME:
            reach = (output[axis] - 1) * stride + taps[-1] + 1
            padding = max(reach - source[axis], 0) // 2
        places = np.arange(output[axis]) * stride - padding
        inside = places[:, None] + taps[None, :]
        shares.append(((inside >= 0) & (inside < source[axis])).mean(axis=0))
    return np.outer(*shares)


def _quantized_mean(
    model: bytes, samples: Sequence[tflite.Inputs], *, tensor: tflite.Tensor
) -> np.ndarray:
    """Runs the quantized file and returns the mean of `tensor` per channel."""
    runner = tflite.Runner(model, preserve_all_tensors=True)
    mean, view = Mean(tensor), runner.interpreter.tensor(tensor.index)
    for sample in samples:
        runner.set_inputs(_quantized_inputs(sample, runner.model))
        runner.invoke()
        mean.update(view())
    params = tensor.quantization
    assert params is not None  # noqa: S101 - its dtype is int8.
    return float(params.scale[0]) * (mean.value - float(params.zero_point[0]))


def _quantized_inputs(
    sample: tflite.Inputs, model: tflite.TfliteModel
) -> dict[str, np.ndarray]:
    """Turns floats into integers where the file takes such."""
    named = named_inputs(sample, model.input_names)
    for name, index in model.input_names.items():
        params = model.tensors[index].quantization
        if params is not None:
            limits = np.iinfo(model.tensors[index].dtype)
            steps = np.rint(named[name] / params.scale[0]) + params.zero_point[0]
            named[name] = np.clip(steps, limits.min, limits.max).astype(limits.dtype)
    return named
