"""Networks that only the benchmarks need, with the real weights they come with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tf_keras
from tf_keras import layers

CIFAR_MEAN = (0.485, 0.456, 0.406)
CIFAR_STD = (0.229, 0.224, 0.225)


def cifar_resnet(depth: int, weights: Path | None = None) -> tf_keras.Model:
    """Builds the CIFAR ResNet of 6n + 2 layers (He et al. 2016, section 4.2).

    The parameter-free shortcuts (option A: every second pixel, zeros for the new
    channels) are 1x1 convolutions of stride 2 whose kernel selects the old channels.

    Args:
        depth: 20, 32, 44, 56, ...
        weights: `.npz` of a PyTorch state dict, kernels OIHW; None: random weights.
    """
    inputs = tf_keras.Input((32, 32, 3), name="input")
    x = _conv_bn(inputs, 16, 3, 1, "conv1", "bn1")
    x = layers.ReLU(name="relu")(x)
    for stage, width in enumerate((16, 32, 64), start=1):
        for index in range((depth - 2) // 6):
            strides = 2 if stage > 1 and index == 0 else 1
            x = _block(x, width, strides, f"layer{stage}.{index}")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    outputs = layers.Dense(10, activation="softmax", name="linear")(x)
    model = tf_keras.Model(inputs, outputs, name=f"resnet{depth}")
    for layer in model.layers:
        if layer.name.endswith("shortcut"):
            layer.set_weights([_selection(*layer.kernel.shape[2:])])
    if weights is not None:
        _load_torch(model, np.load(weights, allow_pickle=False))
    return model


def _conv_bn(x, filters, size, strides, name, bn_name):
    if strides > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    padding = "valid" if strides > 1 else "same"
    x = layers.Conv2D(
        filters, size, strides=strides, padding=padding, use_bias=False, name=name
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=bn_name)(x)


def _block(x, width, strides, name):
    shortcut = x
    x = _conv_bn(x, width, 3, strides, f"{name}.conv1", f"{name}.bn1")
    x = layers.ReLU(name=f"{name}.relu1")(x)
    x = _conv_bn(x, width, 3, 1, f"{name}.conv2", f"{name}.bn2")
    if strides > 1:
        shortcut = layers.Conv2D(
            width, 1, strides=2, use_bias=False, name=f"{name}.shortcut"
        )(shortcut)
    x = layers.Add(name=f"{name}.add")([x, shortcut])
    return layers.ReLU(name=f"{name}.relu2")(x)


def _selection(old: int, new: int) -> np.ndarray:
    kernel = np.zeros((1, 1, old, new), np.float32)
    kernel[0, 0, np.arange(old), np.arange(old) + (new - old) // 2] = 1.0
    return kernel


def _load_torch(model: tf_keras.Model, state) -> None:
    for layer in model.layers:
        name = layer.name
        if f"{name}.running_mean" in state:
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([state[f"{name}.{part}"] for part in parts])
        elif f"{name}.bias" in state:
            layer.set_weights([state[f"{name}.weight"].T, state[f"{name}.bias"]])
        elif f"{name}.weight" in state:
            layer.set_weights([state[f"{name}.weight"].transpose(2, 3, 1, 0)])
