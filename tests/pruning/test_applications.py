"""Known architectures are pruned by half, and the proof holds."""

from __future__ import annotations

import itertools
import json

import keras
import pytest
import tf_keras

import tfslim
from tests.pruning import applications
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget, channels, scores, surgery
from tfslim.pruning.prune import prune_channels

TABLE = json.loads(applications.TABLE.read_text())
NAMES = [
    pytest.param(name, marks=[] if name in applications.FAST else pytest.mark.slow)
    for name in [*applications.APPLICATIONS, *applications.ZOO]
]


@pytest.mark.parametrize(
    "k",
    [pytest.param(tf_keras, marks=pytest.mark.slow, id="tf_keras"), keras],
    ids=["tf_keras", "keras"],
)
@pytest.mark.parametrize("name", NAMES)
def test_half_of_the_channels(name, k):
    model = applications.build(name, k)
    row, report = applications.measure(model)
    assert row == TABLE[name]
    assert report.error < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_trunk_of_convnext_is_cut_if_asked(k):
    model = applications.build("ConvNeXtTiny", k)
    plan = budget.Budget(pruning_ratio=0.5, divisor=1, cut_layer_norms=True)
    smaller, report = prune_channels(model, budget=plan)
    # The inside of its 18 blocks as before, and the trunks of its four stages.
    assert len(report.keep) == 18 + 4
    assert report.error < 1e-5
    assert smaller.count_params() < 0.27 * model.count_params()


def test_vgg16_by_hand():
    # Halved widths 32 32 64 64 128 128 128 256 ... of 3x3 convolutions, then, at
    # 32 x 32, one position of 256 channels into Dense layers of half their units.
    widths = [32, 32, 64, 64, *[128] * 3, *[256] * 6]
    convolutions = sum(
        9 * a * b + b for a, b in zip([3, *widths], widths, strict=False)
    )
    row = TABLE["vgg16"]
    dense = row["params_after"] - convolutions
    assert row["groups"] == len(widths) + 2
    assert dense == 256 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 1000 + 1000


def test_resnet18_by_hand():
    # One group per stage's trunk and one inside each of the eight blocks.
    assert TABLE["resnet18"]["groups"] == 4 + 8
    params = 49 * 3 * 32 + 4 * 32
    before = 32
    for stage, out in enumerate([32, 64, 128, 256]):
        for block in range(2):
            params += 9 * before * out + 9 * out * out + 8 * out
            if stage and not block:
                params += before * out + 4 * out
            before = out
    assert TABLE["resnet18"]["params_after"] == params + 256 * 1000 + 1000


def test_resnet18_is_cut_as_torch_pruning_cuts_it():
    # torch-pruning 1.6.1 on torchvision's layout with a 3x3 stem, 10 classes, L1
    # norm, half of every layer: 12 groups, 11,173,962 -> 2,797,610 trained weights.
    model = tfslim.build_model(
        "resnet18", stem="cifar", num_classes=10, input_shape=(32, 32, 3)
    )
    found = channels.analyze(graph_keras.read(model))
    scored = scores.score_channels(found, scores.Scoring())
    plan = budget.Budget(pruning_ratio=0.5, divisor=1)
    keep = budget.plan(found, scored, budget=plan)
    _, report = surgery.cut_channels(found.graph, keep, channels=found)
    assert len(found.groups) == 12
    assert report.before.trainable_params == 11_173_962
    assert report.after.trainable_params == 2_797_610


def test_mobilenet_by_hand():
    # One group per pointwise convolution and the stem; depthwise follows.
    assert TABLE["MobileNet"]["groups"] == 14
    widths = [16, 32, 64, 64, 128, 128, *[256] * 6, 512, 512]
    params = 27 * 16 + 4 * 16
    for before, out in itertools.pairwise(widths):
        params += 9 * before + 4 * before + before * out + 4 * out
    assert TABLE["MobileNet"]["params_after"] == params + 512 * 1000 + 1000
