"""ResNet-18 in the layout of torchvision, with a stem for small images."""

from __future__ import annotations

from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor


def resnet18(
    inputs: Tensor,
    *,
    num_classes: int = 1000,
    classifier_activation: str | None = "softmax",
    alpha: float = 1.0,
    stem: str = "imagenet",
) -> Tensor:
    """Builds ResNet-18, activation after addition, global average pooling.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
    https://arxiv.org/abs/1512.03385. Zero-padding, strides, epsilon and names are
    torchvision's ("layer1_0_conv1" is its layer1.0.conv1), so its weights fit.

    Args:
        inputs: [batch, height, width, channels], at least 32x32, or 8x8 with the
            "cifar" stem: below its total stride a stage would see padding only.
        num_classes: width of the output.
        classifier_activation: activation of the output; None gives logits.
        alpha: width multiplier of all convolutions.
        stem: "imagenet", a 7x7 convolution and a max-pooling, both of stride 2;
            "cifar", one 3x3 convolution of stride 1.

    Returns:
        [batch, num_classes].
    """
    blocks.check_choice("stem of resnet18", stem, choices=("imagenet", "cifar"))
    width = blocks.make_divisible(64 * alpha)
    if stem == "imagenet":
        x = _conv_bn(
            inputs, width, kernel_size=7, strides=2, name="conv1", bn_name="bn1"
        )
    else:
        x = _conv_bn(inputs, width, kernel_size=3, name="conv1", bn_name="bn1")
    x = layers.ReLU(name="relu")(x)
    if stem == "imagenet":
        # Zeros pad a maximum only where nothing is negative, as here after the ReLU.
        x = layers.ZeroPadding2D(1, name="maxpool_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    for stage, channels in enumerate((64, 128, 256, 512), start=1):
        width = blocks.make_divisible(channels * alpha)
        strides = 1 if stage == 1 else 2
        x = _basic_block(x, width, strides=strides, name=f"layer{stage}_0")
        x = _basic_block(x, width, strides=1, name=f"layer{stage}_1")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    return layers.Dense(num_classes, activation=classifier_activation, name="fc")(x)


def _conv_bn(
    x: Tensor,
    filters: int,
    *,
    kernel_size: int,
    strides: int = 1,
    name: str,
    bn_name: str,
) -> Tensor:
    """Pads by half the kernel on every side, where 'same' would pad one side more."""
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="valid" if strides > 1 else "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return blocks.batch_norm(x, name=bn_name, epsilon=1e-5)


def _basic_block(x: Tensor, filters: int, *, strides: int, name: str) -> Tensor:
    shortcut = x
    x = _conv_bn(
        x,
        filters,
        kernel_size=3,
        strides=strides,
        name=f"{name}_conv1",
        bn_name=f"{name}_bn1",
    )
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _conv_bn(x, filters, kernel_size=3, name=f"{name}_conv2", bn_name=f"{name}_bn2")
    if strides > 1:
        shortcut = _conv_bn(
            shortcut,
            filters,
            kernel_size=1,
            strides=strides,
            name=f"{name}_downsample_0",
            bn_name=f"{name}_downsample_1",
        )
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)
