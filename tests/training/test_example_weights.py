"""Weights of examples count in whatever trains: what weighs nothing does not matter."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import training
from tfslim.pruning import budget

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype("float32")
Y = RNG.integers(0, 3, 48)
WEIGHTS = np.tile([0.0, 1.0, 2.0], 16).astype("float32")
# Other classes where the weight is 0.
OTHER = np.where(WEIGHTS == 0, (Y + 1) % 3, Y)
OPTIONS = training.FitOptions(epochs=1, batch_size=16, seed=0)
HALF = budget.Budget(pruning_ratio=0.5, divisor=1)


def _model():
    tf_keras.utils.set_random_seed(0)
    x = tf_keras.Input((6,))
    y = tf_keras.layers.Dense(8, name="hidden")(x)
    y = tf_keras.layers.ReLU()(tf_keras.layers.BatchNormalization()(y))
    return tf_keras.Model(x, tf_keras.layers.Dense(3, activation="softmax")(y))


def _how(data):
    return tfslim.Training(train=data, options=OPTIONS)


METHODS = {
    "fit": lambda data: (
        tfslim.fit(_model(), data, task="classification", options=OPTIONS).model
    ),
    "distill": lambda data: tfslim.distill(
        _model(), _model(), data=data, teacher_weight=0.5, options=OPTIONS
    )[0],
    "distill_features": lambda data: tfslim.distill(
        _model(),
        _model(),
        data=data,
        teacher_weight=0.5,
        features={"hidden": "hidden"},
        options=OPTIONS,
    )[0],
    "slim_network": lambda data: tfslim.slim_network(
        _model(),
        data,
        task="classification",
        budget=HALF,
        sparse_epochs=1,
        fine_tune_epochs=1,
        options=OPTIONS,
    )[0],
    "prox_sg": lambda data: tfslim.prox_sg(
        _model(),
        data,
        task="classification",
        sparse_epochs=1,
        fine_tune_epochs=1,
        options=OPTIONS,
    )[0],
    "activation_pruning": lambda data: tfslim.activation_pruning(
        _model(), data, fine_tune=_how(data), budget=HALF
    )[0],
    "sparsify": lambda data: (
        tfslim.sparsify(_model(), data, method="magnitude", options=OPTIONS).model
    ),
    "prune_iteratively": lambda data: tfslim.prune_iteratively(
        _model(), _how(data), budget=HALF, steps=1
    )[0],
}


def _same(one, other):
    pairs = list(zip(one.get_weights(), other.get_weights(), strict=True))
    return all(a.shape == b.shape and np.array_equal(a, b) for a, b in pairs)


def _batches(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(16)


@pytest.mark.parametrize("pack", [lambda *parts: parts, _batches], ids=["arrays", "ds"])
@pytest.mark.parametrize(
    "name",
    [
        name if name == "fit" else pytest.param(name, marks=pytest.mark.slow)
        for name in METHODS
    ],
)
def test_examples_of_weight_zero_do_not_matter(name, pack):
    run = METHODS[name]
    weighed = run(pack(X, Y, WEIGHTS))
    assert _same(weighed, run(pack(X, OTHER, WEIGHTS)))
    # They matter else, and so does what the others weigh.
    ones = np.ones_like(WEIGHTS)
    assert not _same(weighed, run(pack(X, OTHER, ones)))
    assert not _same(weighed, run(pack(X, Y, (WEIGHTS > 0).astype("float32"))))


def test_validation_may_have_weights():
    for validation in ((X, Y, WEIGHTS), _batches(X, Y, WEIGHTS)):
        how = {"validation": validation, "options": OPTIONS}
        _, report = tfslim.distill(_model(), _model(), data=(X, Y, WEIGHTS), **how)
        assert "val_loss" in report.history
