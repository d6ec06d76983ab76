"""A small convolutional autoencoder."""

from __future__ import annotations

import tf_keras
from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor


def autoencoder(inputs: Tensor) -> Tensor:
    """Builds two encoding and two decoding blocks, all 3x3 with stride 2.

    An encoder halves height and width and quadruples the channels, a decoder does
    the reverse, so that every layer holds as many numbers as the input: 28x28x1 ->
    14x14x4 -> 7x7x16 -> 14x14x4 -> 28x28x1. Each block is a convolution with bias,
    batch normalization and ReLU, the last one too: targets must not be negative.

    Source: Çallı, "Optimizing Neural Networks for Mobile Devices", Radboud
    University, 2017, section 2.2.3.

    Args:
        inputs: [batch, height, width, channels], sides divisible by 4.

    Returns:
        Tensor of the shape of `inputs`, not negative.
    """
    channels = inputs.shape[-1]
    x = _block(layers.Conv2D, inputs, filters=4 * channels, name="encoder1")
    x = _block(layers.Conv2D, x, filters=16 * channels, name="encoder2")
    x = _block(layers.Conv2DTranspose, x, filters=4 * channels, name="decoder1")
    return _block(layers.Conv2DTranspose, x, filters=channels, name="decoder2")


def _block(
    layer: type[tf_keras.layers.Layer],
    x: Tensor,
    *,
    filters: int,
    name: str,
) -> Tensor:
    x = layer(filters, 3, strides=2, padding="same", name=name)(x)
    x = blocks.batch_norm(x, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x)
