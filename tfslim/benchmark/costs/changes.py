"""The same op in other forms: in INT8, narrower, separable, of low rank.

What a change of a model gains is the difference of two measured ops. All functions
return None where the change does not apply to the op.
"""

from __future__ import annotations

import dataclasses

from tfslim import ops
from tfslim.benchmark.costs.spec import OpSpec, TensorSpec

_SCALE, _WEIGHT_SCALE = 0.05, 0.01


def integer(spec: OpSpec) -> OpSpec | None:
    """Returns a float op in static INT8, weights with a scale for each channel."""
    if not any(t.dtype == "float32" and t.kind == "computed" for t in spec.inputs):
        return None
    weights = ops.WEIGHTS.get(spec.op)

    def change(place: int, tensor: TensorSpec) -> TensorSpec:
        if tensor.kind == "absent" or tensor.dtype != "float32":
            return tensor
        if weights is not None and place == weights.bias:
            return dataclasses.replace(
                tensor,
                dtype="int32",
                scale=_SCALE * _WEIGHT_SCALE,
                is_per_channel=True,
                values=None,
            )
        if weights is not None and place == weights.kernel:
            return dataclasses.replace(
                tensor,
                dtype="int8",
                scale=_WEIGHT_SCALE,
                is_per_channel=True,
                axis=weights.output_axis,
                values=None,
            )
        return dataclasses.replace(tensor, dtype="int8", scale=_SCALE, values=None)

    inputs = tuple(change(place, t) for place, t in enumerate(spec.inputs))
    outputs = tuple(change(-1, t) for t in spec.outputs)
    return dataclasses.replace(spec, inputs=inputs, outputs=outputs)


def with_outputs(spec: OpSpec, channels: int) -> OpSpec | None:
    """Returns a convolution or dense op with another number of output channels."""
    if spec.op not in ("CONV_2D", "FULLY_CONNECTED") or channels < 1:
        return None
    source, kernel, *bias = spec.inputs
    if kernel.kind != "constant":
        return None
    changed = [dataclasses.replace(kernel, shape=(channels, *kernel.shape[1:]))]
    changed += [
        b if b.kind == "absent" else dataclasses.replace(b, shape=(channels,))
        for b in bias
    ]
    (output,) = spec.outputs
    output = dataclasses.replace(output, shape=(*output.shape[:-1], channels))
    return dataclasses.replace(spec, inputs=(source, *changed), outputs=(output,))


def with_inputs(spec: OpSpec, channels: int) -> OpSpec | None:
    """Returns a plain convolution or dense op with another number of input channels."""
    if spec.op not in ("CONV_2D", "FULLY_CONNECTED") or channels < 1:
        return None
    source, kernel, *bias = spec.inputs
    if kernel.kind != "constant" or source.shape[-1] != kernel.shape[-1]:
        return None  # Grouped, or flattened.
    source = dataclasses.replace(source, shape=(*source.shape[:-1], channels))
    kernel = dataclasses.replace(kernel, shape=(*kernel.shape[:-1], channels))
    return dataclasses.replace(spec, inputs=(source, kernel, *bias))


def is_plain_convolution(spec: OpSpec) -> bool:
    """Whether an op is a convolution of one group with a window above 1x1."""
    if spec.op != "CONV_2D" or spec.inputs[1].kind != "constant":
        return False
    kernel = spec.inputs[1].shape
    is_whole = kernel[-1] == spec.inputs[0].shape[-1]
    return is_whole and kernel[1:3] != (1, 1)


def separable(spec: OpSpec) -> tuple[OpSpec, OpSpec] | None:
    """Returns the depthwise and the 1x1 convolution in place of a plain one.

    Source: Howard et al., "MobileNets", 2017, https://arxiv.org/abs/1704.04861.
    """
    if not is_plain_convolution(spec) or spec.inputs[0].dtype != "float32":
        return None
    source, kernel = spec.inputs[:2]
    (output,) = spec.outputs
    channels = source.shape[-1]
    middle = TensorSpec((*output.shape[:-1], channels))
    depthwise = OpSpec(
        "DEPTHWISE_CONV_2D",
        (
            source,
            TensorSpec((1, *kernel.shape[1:3], channels), kind="constant"),
            TensorSpec((channels,), kind="constant"),
        ),
        (middle,),
        (*_options(spec), ("depthMultiplier", 1)),
        "DepthwiseConv2DOptionsT",
    )
    return depthwise, _pointwise(middle, output, spec=spec)


def plain(depthwise: OpSpec, pointwise: OpSpec) -> OpSpec | None:
    """Returns the plain convolution in place of a depthwise and the 1x1 behind it."""
    kernel = pointwise.inputs[1].shape
    if depthwise.op != "DEPTHWISE_CONV_2D" or pointwise.op != "CONV_2D":
        return None
    if kernel[1:3] != (1, 1) or kernel[-1] != depthwise.outputs[0].shape[-1]:
        return None
    if depthwise.inputs[0].dtype != "float32":
        return None
    source, output = depthwise.inputs[0], pointwise.outputs[0]
    height, width = depthwise.inputs[1].shape[1:3]
    shape = (output.shape[-1], height, width, source.shape[-1])
    options = dict(_options(depthwise))
    activation = dict(pointwise.options)["fusedActivationFunction"]
    options["fusedActivationFunction"] = activation
    return _convolution(source, output, kernel=shape, options=options)


def low_rank(spec: OpSpec, rank: int) -> tuple[OpSpec, OpSpec] | None:
    """Returns two ops of a rank in place of a dense op or a 1x1 convolution."""
    first = with_outputs(spec, rank)
    if first is None or (spec.op == "CONV_2D" and spec.inputs[1].shape[1:3] != (1, 1)):
        return None
    source, kernel = spec.inputs[:2]
    if source.dtype != "float32" or kernel.dtype != "float32":
        return None
    (output,) = spec.outputs
    if spec.op == "CONV_2D":
        middle = first.outputs[0]
        second = _pointwise(middle, output, spec=spec)
        return first, second
    second = dataclasses.replace(
        spec,
        inputs=(
            first.outputs[0],
            dataclasses.replace(kernel, shape=(kernel.shape[0], rank)),
            *spec.inputs[2:],
        ),
    )
    return first, second


def _pointwise(source: TensorSpec, output: TensorSpec, *, spec: OpSpec) -> OpSpec:
    options = dict(_options(spec))
    options |= {"strideW": 1, "strideH": 1}
    shape = (output.shape[-1], 1, 1, source.shape[-1])
    return _convolution(source, output, kernel=shape, options=options)


def _convolution(
    source: TensorSpec,
    output: TensorSpec,
    *,
    kernel: tuple[int, ...],
    options: dict[str, object],
) -> OpSpec:
    return OpSpec(
        "CONV_2D",
        (
            source,
            TensorSpec(kernel, kind="constant"),
            TensorSpec((output.shape[-1],), kind="constant"),
        ),
        (output,),
        tuple(options.items()),
        "Conv2DOptionsT",
    )


def _options(spec: OpSpec) -> tuple[tuple[str, object], ...]:
    """Returns the options that both kinds of convolutions have."""
    common = (
        *("padding", "strideW", "strideH", "fusedActivationFunction"),
        *("dilationWFactor", "dilationHFactor"),
    )
    return tuple((name, value) for name, value in spec.options if name in common)
