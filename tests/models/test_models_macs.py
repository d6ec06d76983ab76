"""Multiply-accumulates (1 MAC = 2 FLOPs) that are known from elsewhere."""

import pytest

import tfslim
from tfslim.graph import count, keras


def _macs(name, **options):
    return count.count(keras.read(tfslim.build_model(name, **options))).macs


@pytest.mark.parametrize(
    ("name", "options", "macs"),
    [
        # torch's FlopCounter has twice this for torchvision's network.
        ("alexnet", {}, 714_188_480),
        # By hand: the stem 86,704,128; four convolutions of stage 1 7,398,752,256;
        # stages 2 to 4 6,576,668,672 each; the classifier 5,120.
        ("resnet18", {"stem": "cifar", "num_classes": 10}, 27_215_467_520),
        # Convolutions 1,813,561,344 as torchvision's, the classifier 512,000.
        ("resnet18", {}, 1_814_073_344),
        # Convolutions 15,346,630,656, the classifier 512,000.
        ("vgg16", {"classifier": "gap"}, 15_347_142_656),
        # By hand: 14*14*36 + 7*7*36*16, and the same backwards.
        ("autoencoder", {}, 70_560),
        ("mlp", {}, 3_000),
        # Darknet's page: 65.86 and 5.56 billion operations, two a MAC, at 416 x 416.
        ("yolov3", {}, pytest.approx(65.86e9 / 2, rel=1e-3)),
        ("yolov3_tiny", {}, pytest.approx(5.56e9 / 2, rel=1e-3)),
    ],
)
def test_macs(name, options, macs):
    assert _macs(name, **options) == macs


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mobilenet_v1", 569),
        ("mobilenet_v2", 300),
        ("mobilenet_v3_large", 219),
        ("mobilenet_v3_small", 56),
    ],
)
def test_macs_of_the_papers(name, millions):
    # Papers round, and do not say what they count beside convolutions.
    macs = _macs(name)
    assert macs / 1e6 == pytest.approx(millions, rel=0.015)
