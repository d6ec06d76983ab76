"""Ratios by layer: from the zeros of kernels, to groups, under a limit."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.graph import models
from tfslim import errors
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget, channels, ratios, ratios_from_sparsity

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _model(k, width=8):
    layers = k.layers
    x = k.Input((8, 8, 3))
    y = layers.Conv2D(width, 3, padding="same", name="stem")(x)
    z = layers.SeparableConv2D(width, 3, padding="same", name="separable")(y)
    y = layers.Add()([y, z])
    y = layers.DepthwiseConv2D(3, name="depthwise")(y)
    y = layers.Conv2DTranspose(2 * width, 2, name="transposed")(y)
    y = layers.GlobalAveragePooling2D()(y)
    y = layers.Dense(width + 2, name="hidden")(y)
    return models.randomize(k.Model(x, layers.Dense(4, name="head")(y)))


def _zero(model, layer, share):
    """Zeros the smallest weights of a layer's largest kernel, like a threshold."""
    weights = model.get_layer(layer).get_weights()
    i = max(range(len(weights)), key=lambda j: weights[j].size)
    w = weights[i]
    order = np.argsort(np.abs(w).ravel())[: round(w.size * share)]
    w.ravel()[order] = 0.0
    model.get_layer(layer).set_weights(weights)


@BOTH
def test_the_share_of_zeros_of_each_kernel(k):
    model = _model(k)
    _zero(model, "stem", 0.25)
    _zero(model, "transposed", 0.5)
    _zero(model, "hidden", 1.0)
    found = ratios_from_sparsity(model)
    assert found == {
        "stem": 0.25,
        "separable": 0.0,
        "transposed": 0.5,
        # One of ten channels stays.
        "hidden": pytest.approx(0.9),
        "head": 0.0,
    }
    assert ratios_from_sparsity(graph_keras.read(model)) == found
    assert all(r > 0.5 for r in ratios_from_sparsity(model, threshold=1e9).values())
    with pytest.raises(errors.ConfigError, match="threshold must be at least 0"):
        ratios_from_sparsity(model, threshold=-1.0)


@BOTH
def test_pruning_by_ratios(k):
    model = _model(k, width=32)
    smaller, report = tfslim.prune_channels(
        model, ratios={"stem": 0.25, "separable": 0.75, "hid*": 0.7, "head": 0.5}
    )
    widths = {
        layer.name: layer.output.shape[-1]
        for layer in smaller.layers
        if layer.get_weights()
    }
    # stem and separable are added up: both lose the mean of their ratios, one half.
    assert widths == {
        "stem": 16,
        "separable": 16,
        "depthwise": 16,
        "transposed": 64,
        # 11 of 34 would stay, rounded up to 16.
        "hidden": 16,
        "head": 4,
    }
    assert report.error < 1e-5
    assert "0.5 was not used: is an output of the model" in report.skipped["head"]


def test_the_first_pattern_that_fits_counts():
    found = channels.analyze(graph_keras.read(_model(keras)))
    used, unused = ratios.group_ratios(found, {"h*": 0.25, "hidden": 0.5, "*": 0.0})
    assert used["hidden"] == 0.25 and used["transposed"] == 0.0
    assert list(unused) == ["head"]


def test_a_limit_scales_all_ratios_together():
    graph = graph_keras.read(_model(keras))
    found = channels.analyze(graph)
    given = {"stem": 0.2, "transposed": 0.5, "hidden": 0.0}
    whole = count.count(graph).params
    scaled = ratios.meet_limit(
        found, given, budget=budget.Budget(max_params=whole * 0.5, divisor=1)
    )
    # Kept shares 0.8, 0.5 and 1 times the same factor.
    factors = [(1 - scaled[group]) / (1 - given[group]) for group in given]
    assert factors == pytest.approx([factors[0]] * 3) and 0.3 < factors[0] < 1
    smaller, _ = tfslim.prune_channels(
        _model(keras), budget=budget.Budget(ratios=scaled, divisor=1)
    )
    left = count.count(graph_keras.read(smaller)).params
    assert 0.4 * whole < left <= 0.5 * whole
    # A limit that they more than meet: less of each.
    most = {"stem": 0.9, "transposed": 0.6, "hidden": 0.0}
    scaled = ratios.meet_limit(
        found, most, budget=budget.Budget(max_params=whole * 0.9, divisor=1)
    )
    assert scaled["stem"] / 0.9 == pytest.approx(scaled["transposed"] / 0.6)
    assert 0 < scaled["stem"] < 0.9 and scaled["hidden"] == 0.0
    with pytest.raises(errors.ConfigError, match="cannot be met"):
        ratios.meet_limit(found, {"hidden": 0.0}, budget=budget.Budget(max_params=10))
    with pytest.raises(errors.ConfigError, match="needs a limit"):
        ratios.meet_limit(found, given, budget=budget.Budget(pruning_ratio=0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": {"stem": 0.5}, "pruning_ratio": 0.5}, "one of pruning_ratio"),
        ({"ratios": {"stem": 1.0}}, r"'stem' must be in \[0, 1\), got 1.0"),
        ({"ratios": {"stam": 0.5}}, "stem"),
        ({}, "one of pruning_ratio"),
    ],
)
def test_wrong_ratios(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.prune_channels(_model(keras), **options)
