"""Blocks that several architectures share, from plain Keras layers only.

Every layer has a name of its own, so that one architecture built twice is equal.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

from tf_keras import layers

from tfslim.registry import unknown_name

# A symbolic tensor of Keras; tf_keras has no public name for the type.
Tensor: TypeAlias = Any

# PyTorch's default. The 0.999 of keras.applications needs thousands of steps before
# the moving statistics are usable; a short run would be judged on their start value.
BATCH_NORM_MOMENTUM = 0.9


def check_choice(option: str, value: Any, *, choices: Collection[str]) -> None:
    """Raises a ConfigError if `value` is not one of `choices`."""
    if value not in choices:
        raise unknown_name(option, value, known=choices)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Rounds a number of channels to the nearest multiple of `divisor`, at least one.

    It rounds up where rounding down would take more than 10% of the channels.
    Source: Sandler et al., "MobileNetV2", CVPR 2018, reference code,
    https://arxiv.org/abs/1801.04381.

    Example:
        >>> make_divisible(32 * 0.35), make_divisible(11, 8), make_divisible(3)
        (16, 16, 8)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def batch_norm(x: Tensor, *, name: str, epsilon: float = 1e-3) -> Tensor:
    """Applies batch normalization over the channels."""
    return layers.BatchNormalization(
        epsilon=epsilon, momentum=BATCH_NORM_MOMENTUM, name=name
    )(x)


def conv_bn(
    x: Tensor,
    filters: int,
    *,
    kernel_size: int,
    strides: int = 1,
    name: str,
    bn_name: str = "",
) -> Tensor:
    """Applies a 'same' convolution without bias, then batch normalization.

    Its name is `bn_name`, by default that of the convolution and "_bn".
    """
    x = layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", use_bias=False, name=name
    )(x)
    return batch_norm(x, name=bn_name or f"{name}_bn")


def depthwise_bn(
    x: Tensor,
    kernel_size: int,
    *,
    strides: int = 1,
    padding: str = "same",
    name: str,
    bn_name: str = "",
) -> Tensor:
    """Applies a depthwise convolution without bias, then batch normalization.

    Its name is `bn_name`, by default that of the convolution and "_bn".
    """
    x = layers.DepthwiseConv2D(
        kernel_size, strides=strides, padding=padding, use_bias=False, name=name
    )(x)
    return batch_norm(x, name=bn_name or f"{name}_bn")


def relu6(x: Tensor, *, name: str) -> Tensor:
    """Returns min(max(x, 0), 6)."""
    return layers.ReLU(6.0, name=name)(x)


def hard_sigmoid(x: Tensor, *, name: str) -> Tensor:
    """Returns relu6(x + 3) / 6.

    tf_keras's activation of that name is another function, clip(0.2 x + 0.5, 0, 1).
    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019,
    https://arxiv.org/abs/1905.02244, section 5.2.
    """
    x = layers.Rescaling(1.0, offset=3.0, name=f"{name}_shift")(x)
    x = relu6(x, name=f"{name}_relu6")
    return layers.Rescaling(1.0 / 6.0, name=f"{name}_scale")(x)


def hard_swish(x: Tensor, *, name: str) -> Tensor:
    """Returns x * hard_sigmoid(x); the converter makes one HARD_SWISH of it."""
    return layers.Multiply(name=name)([x, hard_sigmoid(x, name=name)])


def squeeze_excite(x: Tensor, *, ratio: float, name: str) -> Tensor:
    """Weighs the channels of `x` by a gate computed from their means.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018,
    https://arxiv.org/abs/1709.01507; hard sigmoid as in MobileNetV3.

    Args:
        x: [batch, height, width, channels].
        ratio: channels of the narrow layer as a share of those of `x`.
        name: prefix of the layers' names.
    """
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_avg_pool")(x)
    gate = layers.Conv2D(make_divisible(channels * ratio), 1, name=f"{name}_conv")(gate)
    gate = layers.ReLU(name=f"{name}_relu")(gate)
    gate = layers.Conv2D(channels, 1, name=f"{name}_conv_1")(gate)
    gate = hard_sigmoid(gate, name=f"{name}_gate")
    return layers.Multiply(name=f"{name}_mul")([x, gate])


def dropout(x: Tensor, rate: float, *, name: str) -> Tensor:
    """Applies dropout in training; a rate of 0 adds no layer."""
    return layers.Dropout(rate, name=name)(x) if rate else x


def classifier(x: Tensor, num_classes: int, *, activation: str | None) -> Tensor:
    """Turns [batch, features] into [batch, num_classes]."""
    return layers.Dense(num_classes, activation=activation, name="predictions")(x)


def conv_classifier(
    x: Tensor,
    num_classes: int,
    *,
    activation: str | None,
    conv_name: str,
) -> Tensor:
    """Turns [batch, 1, 1, channels] into [batch, num_classes] by a 1x1 convolution."""
    x = layers.Conv2D(num_classes, 1, padding="same", name=conv_name)(x)
    x = layers.Flatten(name="flatten")(x)
    if activation is None:
        return x
    return layers.Activation(activation, name="predictions")(x)
