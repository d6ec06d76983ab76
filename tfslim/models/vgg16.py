"""VGG16, with and without batch normalization."""

from __future__ import annotations

from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor

# (convolutions, channels) of the five stages.
_STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def vgg16(
    inputs: Tensor,
    *,
    num_classes: int = 1000,
    classifier_activation: str | None = "softmax",
    alpha: float = 1.0,
    batch_norm: bool = False,
    classifier: str = "fc",
    dropout_rate: float = 0.5,
) -> Tensor:
    """Builds VGG16; takes the weights of `tf_keras.applications.VGG16`.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
    Image Recognition", ICLR 2015, https://arxiv.org/abs/1409.1556, configuration D.

    Args:
        inputs: [batch, height, width, channels], at least 32x32.
        num_classes: width of the output.
        classifier_activation: activation of the output; None gives logits.
        alpha: width multiplier of the convolutions; the dense layers keep their size.
        batch_norm: normalize after each convolution, whose bias stays as in
            torchvision's `vgg16_bn`.
        classifier: "fc" flattens into two dense layers of 4096; "gap" averages over
            the feature map instead, which saves 119 of the 138 million parameters.
        dropout_rate: share of units dropped after each dense layer of "fc".

    Returns:
        [batch, num_classes].
    """
    blocks.check_choice("classifier of vgg16", classifier, choices=("fc", "gap"))
    x = inputs
    for stage, (num_convs, channels) in enumerate(_STAGES, start=1):
        for conv in range(1, num_convs + 1):
            name = f"block{stage}_conv{conv}"
            x = layers.Conv2D(
                blocks.make_divisible(channels * alpha),
                3,
                padding="same",
                activation=None if batch_norm else "relu",
                kernel_initializer="he_normal",
                name=name,
            )(x)
            if batch_norm:
                x = blocks.batch_norm(x, name=f"{name}_bn", epsilon=1e-5)
                x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.MaxPooling2D(2, name=f"block{stage}_pool")(x)
    if classifier == "gap":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    else:
        x = layers.Flatten(name="flatten")(x)
        for name in ("fc1", "fc2"):
            x = layers.Dense(
                4096, activation="relu", kernel_initializer="he_normal", name=name
            )(x)
            x = blocks.dropout(x, dropout_rate, name=f"{name}_dropout")
    return blocks.classifier(x, num_classes, activation=classifier_activation)
