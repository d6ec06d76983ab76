"""MobileNet (version 1)."""

from __future__ import annotations

from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor

# (channels, stride) of the thirteen depthwise separable blocks.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_v1(
    inputs: Tensor,
    *,
    num_classes: int = 1000,
    classifier_activation: str | None = "softmax",
    alpha: float = 1.0,
    dropout_rate: float = 1e-3,
) -> Tensor:
    """Builds MobileNet; takes the weights of `tf_keras.applications.MobileNet`.

    Source: Howard et al., "MobileNets", 2017, https://arxiv.org/abs/1704.04861.

    Args:
        inputs: [batch, height, width, channels], at least 32x32.
        num_classes: width of the output.
        classifier_activation: activation of the output; None gives logits.
        alpha: width multiplier; channels are rounded down to whole ones.
        dropout_rate: share of channels dropped before the classifier.

    Returns:
        [batch, num_classes].
    """

    def width(channels: int) -> int:
        return max(1, int(channels * alpha))

    x = blocks.conv_bn(inputs, width(32), kernel_size=3, strides=2, name="conv1")
    x = blocks.relu6(x, name="conv1_relu")
    for index, (channels, strides) in enumerate(_BLOCKS, start=1):
        x = _separable_block(x, width(channels), strides=strides, index=index)
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    x = blocks.dropout(x, dropout_rate, name="dropout")
    return blocks.conv_classifier(
        x, num_classes, activation=classifier_activation, conv_name="conv_preds"
    )


def _separable_block(x: Tensor, filters: int, *, strides: int, index: int) -> Tensor:
    padding = "same"
    if strides == 2 and (x.shape[1] % 2 or x.shape[2] % 2):
        # keras.applications pads below and on the right only, whatever the size. On
        # even sizes that is 'same'; on odd ones the weights want it done their way.
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{index}")(x)
        padding = "valid"
    name = f"conv_dw_{index}"
    x = blocks.depthwise_bn(x, 3, strides=strides, padding=padding, name=name)
    x = blocks.relu6(x, name=f"{name}_relu")
    name = f"conv_pw_{index}"
    x = blocks.conv_bn(x, filters, kernel_size=1, name=name)
    return blocks.relu6(x, name=f"{name}_relu")
