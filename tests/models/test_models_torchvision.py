"""AlexNet and ResNet-18 against torchvision's forward pass, written in numpy.

The functions below take explicit zero-padding on every side, as PyTorch does, so
that a layer that pads or strides otherwise is seen.
"""

import numpy as np
import pytest
from random_weights import randomize

import tfslim


def _pad(x, size, value=0.0):
    edges = ((0, 0), (size, size), (size, size), (0, 0))
    return np.pad(x, edges, constant_values=value)


def _windows(x, size, stride):
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return view[:, ::stride, ::stride]  # [n, h, w, c, size, size]


def _conv(x, kernel, stride, padding):
    windows = _windows(_pad(x, padding), kernel.shape[0], stride)
    return np.tensordot(windows, kernel, axes=[[3, 4, 5], [2, 0, 1]])


def _max_pool(x, size, stride, padding=0):
    return _windows(_pad(x, padding, -np.inf), size, stride).max(axis=(-1, -2))


def _relu(x):
    return np.maximum(x, 0)


class _ResNet18:
    def __init__(self, model):
        self.layers = {layer.name: layer.get_weights() for layer in model.layers}

    def conv_bn(self, x, conv, norm, stride, padding):
        x = _conv(x, *self.layers[conv], stride, padding)
        gamma, beta, mean, variance = self.layers[norm]
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def block(self, x, name, stride):
        y = _relu(self.conv_bn(x, f"{name}_conv1", f"{name}_bn1", stride, 1))
        y = self.conv_bn(y, f"{name}_conv2", f"{name}_bn2", 1, 1)
        if f"{name}_downsample_0" in self.layers:
            x = self.conv_bn(
                x, f"{name}_downsample_0", f"{name}_downsample_1", stride, 0
            )
        return _relu(x + y)

    def __call__(self, x, stem):
        if stem == "imagenet":
            x = _relu(self.conv_bn(x, "conv1", "bn1", 2, 3))
            x = _max_pool(x, 3, 2, 1)
        else:
            x = _relu(self.conv_bn(x, "conv1", "bn1", 1, 1))
        for stage, stride in enumerate((1, 2, 2, 2), start=1):
            x = self.block(x, f"layer{stage}_0", stride)
            x = self.block(x, f"layer{stage}_1", 1)
        kernel, bias = self.layers["fc"]
        return x.mean(axis=(1, 2)) @ kernel + bias


@pytest.mark.parametrize(
    ("stem", "shape"),
    [("cifar", (16, 11, 3)), ("imagenet", (64, 64, 3)), ("imagenet", (45, 70, 1))],
)
def test_resnet18(stem, shape):
    model = tfslim.build_model(
        "resnet18",
        stem=stem,
        alpha=0.125,
        input_shape=shape,
        num_classes=5,
        classifier_activation=None,
    )
    randomize(model)
    x = np.random.default_rng(1).normal(size=(2, *shape))
    expected = _ResNet18(model)(x, stem)
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_alexnet():
    model = tfslim.build_model(
        "alexnet",
        alpha=0.125,
        input_shape=(95, 70, 3),
        num_classes=5,
        classifier_activation=None,
    )
    randomize(model)
    layers = {layer.name: layer.get_weights() for layer in model.layers}

    def conv(x, name, stride, padding):
        kernel, bias = layers[name]
        return _relu(_conv(x, kernel, stride, padding) + bias)

    x = np.random.default_rng(1).normal(size=(2, 95, 70, 3))
    y = _max_pool(conv(x, "conv1", 4, 2), 3, 2)
    y = _max_pool(conv(y, "conv2", 1, 2), 3, 2)
    for name in ("conv3", "conv4", "conv5"):
        y = conv(y, name, 1, 1)
    y = _max_pool(y, 3, 2).reshape(2, -1)
    for name in ("fc1", "fc2", "predictions"):
        kernel, bias = layers[name]
        y = y @ kernel + bias
        y = y if name == "predictions" else _relu(y)
    np.testing.assert_allclose(model(x).numpy(), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [223, 254])
def test_alexnet_has_torchvisions_map_where_its_docstring_says_so(size):
    model = tfslim.build_model("alexnet", alpha=0.125, input_shape=(size, size, 3))
    assert model.get_layer("pool5").output_shape[1:3] == (6, 6)
