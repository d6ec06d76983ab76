"""YOLOv3 and YOLOv3-tiny in the layout of Darknet, for any number of classes.

The outputs are raw: `tfslim.detection` has the anchors that belong to them, turns
them into boxes and reads and writes Darknet's own files.
"""

from __future__ import annotations

import numpy as np
from tf_keras import layers

from tfslim.models import blocks
from tfslim.models.blocks import Tensor

# Darknet's stages after the first convolution: channels and residual blocks.
_STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
# What each scale predicts at one place: boxes of three anchors.
_ANCHORS_PER_HEAD = 3
# Objectness that a new head begins with: most places are empty, and a network that
# starts at one half spends its first epochs on learning just that. Lin et al., "Focal
# Loss", ICCV 2017, https://arxiv.org/abs/1708.02002, section 4.1.
_OBJECT_PRIOR = 0.01


def yolov3(
    inputs: Tensor, *, num_classes: int = 80, alpha: float = 1.0
) -> list[Tensor]:
    """Builds YOLOv3: Darknet-53 and a head at each of three scales.

    Source: Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018,
    https://arxiv.org/abs/1804.02767; layers, their order and their padding are those
    of Darknet's `yolov3.cfg`, so its weights fit.

    Args:
        inputs: [batch, height, width, channels], sides divisible by 32, RGB in 0..1.
        num_classes: number of classes.
        alpha: width multiplier of all convolutions but the last of each head.

    Returns:
        Three maps [batch, height / s, width / s, 3 * (5 + num_classes)], s = 32, 16,
        8, linear; channels of each anchor: tx, ty, tw, th, objectness, classes.
    """
    x = _conv(inputs, 32, size=3, alpha=alpha, name="stem")
    stages: dict[int, Tensor] = {}  # By their stride.
    for stage, (channels, repeats) in enumerate(_STAGES, start=1):
        x = _conv(
            x, channels, size=3, strides=2, alpha=alpha, name=f"stage{stage}_down"
        )
        for index in range(repeats):
            x = _residual(x, channels, alpha=alpha, name=f"stage{stage}_{index}")
        stages[2**stage] = x
    outputs: list[Tensor] = []
    for stride, channels in ((32, 512), (16, 256), (8, 128)):
        name = f"head{stride}"
        if outputs:
            x = _conv(x, channels, size=1, alpha=alpha, name=f"{name}_lateral")
            x = layers.UpSampling2D(2, name=f"{name}_upsample")(x)
            x = layers.Concatenate(name=f"{name}_concat")([x, stages[stride]])
        for index, (width, size) in enumerate(((1, 1), (2, 3)) * 2 + ((1, 1),)):
            x = _conv(
                x, channels * width, size=size, alpha=alpha, name=f"{name}_{index}"
            )
        outputs.append(
            _head(x, channels * 2, num_classes=num_classes, alpha=alpha, name=name)
        )
    return outputs


def yolov3_tiny(
    inputs: Tensor, *, num_classes: int = 80, alpha: float = 1.0
) -> list[Tensor]:
    """Builds YOLOv3-tiny: a plain chain of convolutions with two heads.

    Source: Darknet's `yolov3-tiny.cfg`, https://pjreddie.com/darknet/yolo/.

    Args:
        inputs: as for `yolov3`.
        num_classes: number of classes.
        alpha: width multiplier of all convolutions but the last of each head.

    Returns:
        Two maps as those of `yolov3`, of strides 32 and 16.
    """
    x = inputs
    for index, channels in enumerate((16, 32, 64, 128, 256)):
        x = _conv(x, channels, size=3, alpha=alpha, name=f"conv{index}")
        finer = x
        x = layers.MaxPooling2D(2, name=f"pool{index}")(x)
    x = _conv(x, 512, size=3, alpha=alpha, name="conv5")
    # Darknet pads below and on the right, by what never is the maximum.
    x = layers.MaxPooling2D(2, strides=1, padding="same", name="pool5")(x)
    x = _conv(x, 1024, size=3, alpha=alpha, name="conv6")
    x = _conv(x, 256, size=1, alpha=alpha, name="conv7")
    coarse = _head(x, 512, num_classes=num_classes, alpha=alpha, name="head32")
    x = _conv(x, 128, size=1, alpha=alpha, name="head16_lateral")
    x = layers.UpSampling2D(2, name="head16_upsample")(x)
    x = layers.Concatenate(name="head16_concat")([x, finer])
    return [coarse, _head(x, 256, num_classes=num_classes, alpha=alpha, name="head16")]


def _conv(
    x: Tensor, filters: int, *, size: int, strides: int = 1, alpha: float, name: str
) -> Tensor:
    """Applies Darknet's convolution: zero padding, batch norm, leaky ReLU of 0.1."""
    padding = "same"
    if strides > 1:
        # By half the kernel, of which even sides use the top and the left only.
        x = layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"{name}_pad")(x)
        padding = "valid"
    x = layers.Conv2D(
        blocks.make_divisible(filters * alpha),
        size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    # Darknet's epsilon on the GPU, where its weights were trained.
    x = blocks.batch_norm(x, name=f"{name}_bn", epsilon=1e-5)
    return layers.LeakyReLU(0.1, name=f"{name}_leaky")(x)


def _residual(x: Tensor, filters: int, *, alpha: float, name: str) -> Tensor:
    y = _conv(x, filters // 2, size=1, alpha=alpha, name=f"{name}_squeeze")
    y = _conv(y, filters, size=3, alpha=alpha, name=f"{name}_expand")
    return layers.Add(name=f"{name}_add")([y, x])


def _head(
    x: Tensor, filters: int, *, num_classes: int, alpha: float, name: str
) -> Tensor:
    x = _conv(x, filters, size=3, alpha=alpha, name=f"{name}_last")
    values = 5 + num_classes
    head = layers.Conv2D(_ANCHORS_PER_HEAD * values, 1, padding="same", name=name)
    outputs = head(x)
    bias = np.zeros(_ANCHORS_PER_HEAD * values, np.float32)
    bias[4::values] = -np.log((1 - _OBJECT_PRIOR) / _OBJECT_PRIOR)
    head.bias.assign(bias)
    return outputs
