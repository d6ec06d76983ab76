"""A layer that does nothing in inference changes no choice of channels."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tf_keras

from tests.graph import models
from tfslim import count_activations, prune_channels

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
BETWEEN = {
    "Identity": lambda k: k.layers.Identity(),
    "linear": lambda k: k.layers.Activation("linear"),
    "Dropout": lambda k: k.layers.Dropout(0.2),
    "SpatialDropout2D": lambda k: k.layers.SpatialDropout2D(0.2),
    "GaussianNoise": lambda k: k.layers.GaussianNoise(0.2),
    "AlphaDropout": lambda k: k.layers.AlphaDropout(0.2),
    "ActivityRegularization": lambda k: k.layers.ActivityRegularization(l2=1e-3),
    "RandomFlip": lambda k: k.layers.RandomFlip(),
}
DATA = [np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")]


def _model(k, between, *, norm):
    x = k.Input((8, 8, 3))
    y = k.layers.Conv2D(32, 3, name="conv")(x)
    for layer in between:
        y = layer(k)(y)
    if norm:
        y = k.layers.BatchNormalization(name="norm")(y)
        for layer in between:
            y = layer(k)(y)
    y = k.layers.GlobalAveragePooling2D()(k.layers.ReLU()(y))
    return models.randomize(k.Model(x, k.layers.Dense(4, name="end")(y)))


def _kept(k, between, *, norm):
    model = _model(k, between, norm=norm)
    _, report = prune_channels(
        model, pruning_ratio=0.5, criterion="mean_activation", data=DATA
    )
    return report.keep["conv"]


@BOTH
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
def test_mean_activation_does_not_see_them(k, norm):
    plain = _kept(k, [], norm=norm)
    assert plain.sum() == 16
    found = _kept(k, list(BETWEEN.values()), norm=norm)
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("name", BETWEEN)
def test_mean_activation_does_not_see_it(name):
    plain = _kept(tf_keras, [], norm=False)
    np.testing.assert_array_equal(_kept(tf_keras, [BETWEEN[name]], norm=False), plain)


@BOTH
def test_counts_do_not_see_them(k):
    plain = count_activations(_model(k, [], norm=True), DATA[0]).counts["conv"]
    model = _model(k, list(BETWEEN.values()), norm=True)
    np.testing.assert_array_equal(
        count_activations(model, DATA[0]).counts["conv"], plain
    )
