"""AlexNet in the layout of torchvision."""

from __future__ import annotations

from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor


def alexnet(
    inputs: Tensor,
    *,
    num_classes: int = 1000,
    classifier_activation: str | None = "softmax",
    alpha: float = 1.0,
    dropout_rate: float = 0.5,
) -> Tensor:
    """Builds AlexNet: five convolutions, three max-poolings, three dense layers.

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks", 2014, https://arxiv.org/abs/1404.5997, as in torchvision.

    At 223 to 254 pixels a side the last feature map is 6x6, and the network is
    torchvision's. There torchvision pools or repeats any other map to 6x6; here
    the first dense layer takes the map as it is (1x1 at 63 pixels, the least), so
    that its parameters shrink and grow with the input.

    Args:
        inputs: [batch, height, width, channels], at least 63x63.
        num_classes: width of the output.
        classifier_activation: activation of the output; None gives logits.
        alpha: width multiplier of the convolutions; the dense layers keep their size.
        dropout_rate: share of units dropped before the first two dense layers.

    Returns:
        [batch, num_classes].
    """

    def conv(
        x: Tensor,
        filters: int,
        kernel_size: int,
        name: str,
        *,
        strides: int = 1,
        padding: str = "same",
    ) -> Tensor:
        return layers.Conv2D(
            blocks.make_divisible(filters * alpha),
            kernel_size,
            strides=strides,
            padding=padding,
            activation="relu",
            kernel_initializer="he_normal",
            name=name,
        )(x)

    x = layers.ZeroPadding2D(2, name="conv1_pad")(inputs)
    x = conv(x, 64, 11, "conv1", strides=4, padding="valid")
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = conv(x, 192, 5, "conv2")
    x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
    x = conv(x, 384, 3, "conv3")
    x = conv(x, 256, 3, "conv4")
    x = conv(x, 256, 3, "conv5")
    x = layers.MaxPooling2D(3, strides=2, name="pool5")(x)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = blocks.dropout(x, dropout_rate, name=f"{name}_dropout")
        x = layers.Dense(
            4096, activation="relu", kernel_initializer="he_normal", name=name
        )(x)
    return blocks.classifier(x, num_classes, activation=classifier_activation)
