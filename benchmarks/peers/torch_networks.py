"""ResNet-18, MobileNetV2 and DenseNet121 in PyTorch, as their papers have them.

Written by hand: torchvision is not needed. Module by module the same networks as
`tfslim.build_model` and `tf_keras.applications` give, with equal trainable parameters.
"""

# Every network is its constructor and its forward: nothing to add in words.
# ruff: noqa: D102, D107

from __future__ import annotations

import torch
from torch import nn


def conv_bn(inputs, outputs, size=3, stride=1, groups=1, act=nn.ReLU):
    layers = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


class BasicBlock(nn.Module):
    """He et al. 2016, figure 2: two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = conv_bn(inputs, outputs, stride=stride)
        self.second = conv_bn(outputs, outputs, act=None)
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = conv_bn(inputs, outputs, 1, stride, act=None)

    def forward(self, x):
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def resnet18(num_classes=1000):
    blocks, width = [], 64
    for outputs in (64, 128, 256, 512):
        stride = 1 if outputs == 64 else 2
        blocks += [
            BasicBlock(width, outputs, stride),
            BasicBlock(outputs, outputs, 1),
        ]
        width = outputs
    stem = [conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes)]
    return nn.Sequential(*stem, *blocks, *head)


class InvertedResidual(nn.Module):
    """Sandler et al. 2018, figure 3: expand, depthwise, project."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [conv_bn(inputs, hidden, 1, act=nn.ReLU6)]
        layers += [
            conv_bn(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6),
            conv_bn(hidden, outputs, 1, act=None),
        ]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2(num_classes=1000):
    # Expansion, channels, repeats, stride: table 2 of the paper.
    table = [
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ]
    layers, width = [conv_bn(3, 32, 3, 2, act=nn.ReLU6)], 32
    for expansion, outputs, repeats, stride in table:
        for index in range(repeats):
            step = stride if index == 0 else 1
            layers.append(InvertedResidual(width, outputs, step, expansion))
            width = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, num_classes)]
    return nn.Sequential(*layers, conv_bn(width, 1280, 1, act=nn.ReLU6), *head)


class DenseLayer(nn.Module):
    """Huang et al. 2017: BN, ReLU, 1x1, BN, ReLU, 3x3; the input goes along."""

    def __init__(self, inputs, growth):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            conv_bn(inputs, 4 * growth, 1),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x):
        return torch.cat([x, self.body(x)], dim=1)


def densenet121(num_classes=1000, growth=32):
    layers, width = [conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for repeats in (6, 12, 24, 16):
        for _ in range(repeats):
            layers.append(DenseLayer(width, growth))
            width += growth
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        if repeats != 16:
            layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)]
    return nn.Sequential(*layers, *head)


NETWORKS = {
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
    "densenet121": densenet121,
}
