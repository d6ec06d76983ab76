"""MobileNetV3, both sizes."""

from __future__ import annotations

import functools
from typing import NamedTuple

from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor


class _Block(NamedTuple):
    """One row of the paper's tables; `kernel_size` 5 falls to 3 in minimalistic."""

    kernel_size: int
    expansion: float
    channels: int
    has_squeeze: bool
    activation: str
    strides: int


# Source, tables 1 and 2; the expansion is relative to the block's input channels.
_LARGE = (
    _Block(3, 1, 16, False, "relu", 1),
    _Block(3, 4, 24, False, "relu", 2),
    _Block(3, 3, 24, False, "relu", 1),
    _Block(5, 3, 40, True, "relu", 2),
    _Block(5, 3, 40, True, "relu", 1),
    _Block(5, 3, 40, True, "relu", 1),
    _Block(3, 6, 80, False, "hard_swish", 2),
    _Block(3, 2.5, 80, False, "hard_swish", 1),
    _Block(3, 2.3, 80, False, "hard_swish", 1),
    _Block(3, 2.3, 80, False, "hard_swish", 1),
    _Block(3, 6, 112, True, "hard_swish", 1),
    _Block(3, 6, 112, True, "hard_swish", 1),
    _Block(5, 6, 160, True, "hard_swish", 2),
    _Block(5, 6, 160, True, "hard_swish", 1),
    _Block(5, 6, 160, True, "hard_swish", 1),
)
_SMALL = (
    _Block(3, 1, 16, True, "relu", 2),
    _Block(3, 72 / 16, 24, False, "relu", 2),
    _Block(3, 88 / 24, 24, False, "relu", 1),
    _Block(5, 4, 40, True, "hard_swish", 2),
    _Block(5, 6, 40, True, "hard_swish", 1),
    _Block(5, 6, 40, True, "hard_swish", 1),
    _Block(5, 3, 48, True, "hard_swish", 1),
    _Block(5, 3, 48, True, "hard_swish", 1),
    _Block(5, 6, 96, True, "hard_swish", 2),
    _Block(5, 6, 96, True, "hard_swish", 1),
    _Block(5, 6, 96, True, "hard_swish", 1),
)


def mobilenet_v3(
    size: tuple[tuple[_Block, ...], int],
    inputs: Tensor,
    *,
    num_classes: int = 1000,
    classifier_activation: str | None = "softmax",
    alpha: float = 1.0,
    minimalistic: bool = False,
    include_preprocessing: bool = True,
    dropout_rate: float = 0.2,
) -> Tensor:
    """Builds MobileNetV3; takes the weights of `tf_keras.applications`.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019,
    https://arxiv.org/abs/1905.02244. Outputs equal those of
    `tf_keras.applications`; layers have the names of Keras 3, which allows no "/".

    Args:
        size: the blocks, and the channels before the classifier, which grow with
            `alpha`, but never shrink.
        inputs: [batch, height, width, channels], at least 32x32.
        num_classes: width of the output.
        classifier_activation: activation of the output; None gives logits.
        alpha: width multiplier; channels are rounded to multiples of 8.
        minimalistic: no squeeze-excite, no hard swish, no 5x5 kernels; less accurate
            and faster where those are slow.
        include_preprocessing: the model itself scales an input of 0..255 to -1..1;
            else it expects -1..1.
        dropout_rate: share of channels dropped before the classifier.

    Returns:
        [batch, num_classes].
    """
    rows, embedding = size
    x = _features(
        inputs,
        rows,
        alpha=alpha,
        minimalistic=minimalistic,
        include_preprocessing=include_preprocessing,
    )
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    channels = blocks.make_divisible(embedding * max(1.0, alpha))
    x = layers.Conv2D(channels, 1, name="conv_2")(x)
    x = _activate(x, "hard_swish", minimalistic=minimalistic, name="conv_2")
    x = blocks.dropout(x, dropout_rate, name="dropout")
    return blocks.conv_classifier(
        x, num_classes, activation=classifier_activation, conv_name="logits"
    )


mobilenet_v3_small = functools.partial(mobilenet_v3, (_SMALL, 1024))
mobilenet_v3_large = functools.partial(mobilenet_v3, (_LARGE, 1280))


def _activate(x: Tensor, activation: str, *, minimalistic: bool, name: str) -> Tensor:
    if activation == "relu" or minimalistic:
        return layers.ReLU(name=f"{name}_relu")(x)
    return blocks.hard_swish(x, name=f"{name}_hard_swish")


def _features(
    inputs: Tensor,
    rows: tuple[_Block, ...],
    *,
    alpha: float,
    minimalistic: bool,
    include_preprocessing: bool,
) -> Tensor:
    x = inputs
    if include_preprocessing:
        x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(x)
    # The first 16 channels do not scale with alpha.
    x = blocks.conv_bn(x, 16, kernel_size=3, strides=2, name="conv")
    x = _activate(x, "hard_swish", minimalistic=minimalistic, name="conv")
    for index, row in enumerate(rows):
        name = f"expanded_conv_{index}" if index else "expanded_conv"
        filters = blocks.make_divisible(row.channels * alpha)
        x = _inverted_residual(
            x, row, filters=filters, minimalistic=minimalistic, name=name
        )
    last = blocks.make_divisible(x.shape[-1] * 6)
    x = blocks.conv_bn(x, last, kernel_size=1, name="conv_1")
    return _activate(x, "hard_swish", minimalistic=minimalistic, name="conv_1")


def _inverted_residual(
    x: Tensor, row: _Block, *, filters: int, minimalistic: bool, name: str
) -> Tensor:
    shortcut = x
    if row.expansion != 1:
        part = f"{name}_expand"
        expanded = blocks.make_divisible(x.shape[-1] * row.expansion)
        x = blocks.conv_bn(x, expanded, kernel_size=1, name=part)
        x = _activate(x, row.activation, minimalistic=minimalistic, name=part)
    part = f"{name}_depthwise"
    size = 3 if minimalistic else row.kernel_size
    x = blocks.depthwise_bn(x, size, strides=row.strides, name=part)
    x = _activate(x, row.activation, minimalistic=minimalistic, name=part)
    if row.has_squeeze and not minimalistic:
        x = blocks.squeeze_excite(x, ratio=0.25, name=f"{name}_squeeze_excite")
    part = f"{name}_project"
    x = blocks.conv_bn(x, filters, kernel_size=1, name=part)
    if row.strides == 1 and shortcut.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x
