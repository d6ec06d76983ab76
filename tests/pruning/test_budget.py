"""Choosing channels: arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tfslim import errors
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget, channels, scores
from tfslim.pruning.criteria import l1_norm


@pytest.mark.parametrize(
    "channels_, ratio, divisor, least, kept",
    [
        (64, 0.5, 16, 1, 32),
        (64, 0.3, 16, 1, 48),  # 45 left, rounded up.
        (100, 0.29, 1, 1, 71),  # Not 72: 100 * 0.29 is 28.999... in floats.
        (24, 0.5, 16, 1, 16),
        (8, 0.9, 16, 1, 8),  # Never more than there are.
        (8, 0.9, 1, 3, 3),
        (8, 0.99, 1, 1, 1),
        (8, 0.0, 1, 1, 8),
    ],
)
def test_number_of_kept_channels(channels_, ratio, divisor, least, kept):
    values = np.random.default_rng(0).normal(size=channels_)
    mask = budget.select_channels(
        values, pruning_ratio=ratio, divisor=divisor, min_channels=least
    )
    assert mask.sum() == kept
    if kept < channels_:
        assert values[mask].min() > values[~mask].max()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"pruning_ratio": 1.0}, "0.3 removes 30%"),
        ({"pruning_ratio": -0.1}, "must be in"),
        ({}, "needs one of"),
        ({"pruning_ratio": 0.1, "max_macs": 3}, "needs one of"),
        ({"max_cost": 3}, "together"),
        ({"pruning_ratio": 0.1, "scope": "globl"}, "Did you mean 'global'"),
        ({"pruning_ratio": 0.1, "divisor": 0}, "divisor must be at least 1"),
        ({"pruning_ratio": 0.1, "divisor": 1.5}, r"whole number, got 1\.5"),
    ],
)
def test_wrong_budgets_are_refused(options, words):
    with pytest.raises(errors.ConfigError, match=words):
        budget.Budget(**options)


def test_schedules():
    np.testing.assert_allclose(budget.schedule(0.75, 2), [0.5, 0.75])
    np.testing.assert_allclose(budget.schedule(0.6, 3, curve="linear"), [0.2, 0.4, 0.6])
    np.testing.assert_allclose(budget.schedule(0.8, 2, curve="cubic"), [0.7, 0.8])
    with pytest.raises(errors.ConfigError, match="Unknown curve"):
        budget.schedule(0.5, 2, curve="square")


def test_search_finds_the_smallest_ratio():
    assert budget.search_ratio(lambda r: 100 * (1 - r), 40) == pytest.approx(
        0.6, abs=1 / 2**8
    )
    assert budget.search_ratio(lambda r: 10.0, 40) == 0.0


def _channels():
    x = tf_keras.Input((2,))
    y = tf_keras.layers.Dense(3, name="a")(x)
    y = tf_keras.layers.Dense(3, name="b")(y)
    model = tf_keras.Model(x, tf_keras.layers.Dense(1)(tf_keras.layers.Add()([y, y])))
    model.layers[1].set_weights([np.array([[1.0, 2, 3], [0, -2, 1]]), np.zeros(3)])
    return channels.analyze(graph_keras.read(model))


def test_scores_by_hand():
    found = scores.score_channels(_channels(), scores.Scoring(normalization="none"))
    np.testing.assert_allclose(found.groups["a"], [1, 4, 4])
    found = scores.score_channels(_channels(), scores.Scoring(normalization="mean"))
    np.testing.assert_allclose(found.groups["a"], [1 / 3, 4 / 3, 4 / 3])
    found = scores.score_channels(_channels(), scores.Scoring(normalization="lamp"))
    # 16 / 32 twice and 1 / 33: each over those that are not smaller.
    np.testing.assert_allclose(found.groups["a"], [1 / 33, 0.5, 0.5])


def test_reductions_over_a_group_by_hand():
    x = tf_keras.Input((1,))
    a, b = (tf_keras.layers.Dense(2, name=name) for name in "ab")
    model = tf_keras.Model(
        x, tf_keras.layers.Dense(1)(tf_keras.layers.add([a(x), b(x)]))
    )
    a.set_weights([np.array([[1.0, 5.0]]), np.zeros(2)])
    b.set_weights([np.array([[3.0, 1.0]]), np.zeros(2)])
    found = channels.analyze(graph_keras.read(model))
    for reduction, wanted in {
        "sum": [4, 6],
        "mean": [2, 3],
        "max": [3, 5],
        "first": [1, 5],
    }.items():
        scoring = scores.Scoring(reduction=reduction, normalization="none")
        np.testing.assert_allclose(
            scores.score_channels(found, scoring).groups["a"], wanted
        )


def test_positions_of_one_channel_are_summed():
    x = tf_keras.Input((1,))
    dense = tf_keras.layers.Dense(4, name="dense")
    y = tf_keras.layers.Reshape((1, 2, 2))(dense(x))
    y = tf_keras.layers.GlobalAveragePooling2D()(y)
    model = tf_keras.Model(x, tf_keras.layers.Dense(1)(y))
    dense.set_weights([np.array([[1.0, 2.0, 3.0, 4.0]]), np.zeros(4)])
    found = channels.analyze(graph_keras.read(model))
    scored = scores.score_channels(found, scores.Scoring(normalization="none"))
    np.testing.assert_allclose(scored.groups["dense"], [4, 6])


def test_l1_norm_by_hand():
    kernel = np.array([[[1.0, -2.0]], [[3.0, 4.0]]])  # [2, 1, 2]
    np.testing.assert_allclose(l1_norm.l1_norm(kernel, channel_axis=-1), [4, 6])
    np.testing.assert_allclose(l1_norm.l1_norm(kernel, channel_axis=0), [3, 7])


def test_a_group_without_what_is_scored_is_told():
    found = scores.score_channels(_channels(), scores.Scoring(criterion="bn_scale"))
    assert found.groups == {}
    assert found.unscored["a"] == "has no gamma to score"


@pytest.mark.parametrize(
    "criterion, words",
    [
        ("l1norm", "Did you mean 'l1_norm'"),
        (lambda weight, *, channel_axis: weight, "asks for weight"),
        (lambda kernel, *, channel_axis: np.zeros(7), "finite numbers"),
        ("apoz", "needs activations"),
    ],
)
def test_wrong_criteria_are_refused(criterion, words):
    with pytest.raises(errors.ConfigError, match=words):
        scores.score_channels(_channels(), scores.Scoring(criterion=criterion))
