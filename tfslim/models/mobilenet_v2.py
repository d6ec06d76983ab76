"""MobileNetV2."""

from __future__ import annotations

from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor

# (expansion, channels, blocks, stride of the first) of the seven stages.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    inputs: Tensor,
    *,
    num_classes: int = 1000,
    classifier_activation: str | None = "softmax",
    alpha: float = 1.0,
    dropout_rate: float = 0.0,
) -> Tensor:
    """Builds MobileNetV2; takes the weights of `tf_keras.applications.MobileNetV2`.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    CVPR 2018, https://arxiv.org/abs/1801.04381, table 2.

    Args:
        inputs: [batch, height, width, channels], at least 32x32.
        num_classes: width of the output.
        classifier_activation: activation of the output; None gives logits.
        alpha: width multiplier; channels are rounded to multiples of 8, and the last
            1280 do not shrink.
        dropout_rate: share of channels dropped before the classifier.

    Returns:
        [batch, num_classes].
    """
    first = blocks.make_divisible(32 * alpha)
    x = blocks.conv_bn(
        inputs, first, kernel_size=3, strides=2, name="Conv1", bn_name="bn_Conv1"
    )
    x = blocks.relu6(x, name="Conv1_relu")
    index = 0
    for expansion, channels, num_blocks, first_strides in _STAGES:
        filters = blocks.make_divisible(int(channels * alpha))
        for block in range(num_blocks):
            strides = first_strides if block == 0 else 1
            name = f"block_{index}" if index else "expanded_conv"
            x = _inverted_residual(
                x, filters, expansion=expansion, strides=strides, name=name
            )
            index += 1
    last = blocks.make_divisible(1280 * max(1.0, alpha))
    x = blocks.conv_bn(x, last, kernel_size=1, name="Conv_1")
    x = blocks.relu6(x, name="out_relu")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = blocks.dropout(x, dropout_rate, name="dropout")
    return blocks.classifier(x, num_classes, activation=classifier_activation)


def _inverted_residual(
    x: Tensor, filters: int, *, expansion: int, strides: int, name: str
) -> Tensor:
    shortcut = x
    if expansion > 1:
        part, wide = f"{name}_expand", expansion * x.shape[-1]
        x = blocks.conv_bn(x, wide, kernel_size=1, name=part, bn_name=f"{part}_BN")
        x = blocks.relu6(x, name=f"{part}_relu")
    part = f"{name}_depthwise"
    x = blocks.depthwise_bn(x, 3, strides=strides, name=part, bn_name=f"{part}_BN")
    x = blocks.relu6(x, name=f"{part}_relu")
    part = f"{name}_project"
    x = blocks.conv_bn(x, filters, kernel_size=1, name=part, bn_name=f"{part}_BN")
    if strides == 1 and shortcut.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x
