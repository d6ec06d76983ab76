"""Reconstruction against least squares solved by hand, and on trained-like networks."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import errors
from tfslim.pruning import budget, reconstruct

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _redundant(k):
    """Hidden units that are copies of four: any half of them holds the whole."""
    inputs = k.Input((6,), name="x")
    x = k.layers.Dense(8, activation="relu", name="hidden")(inputs)
    model = k.Model(inputs, k.layers.Dense(3, name="out")(x))
    random = np.random.default_rng(0)
    kernel = random.normal(size=(6, 4))
    kernel = np.concatenate([2 * kernel, kernel], axis=1)
    model.set_weights([kernel, np.zeros(8), random.normal(size=(8, 3)), np.ones(3)])
    return model


@BOTH
def test_what_copies_held_is_got_back_exactly(k):
    model = _redundant(k)
    # The smaller copies go by L1; the larger ones can say all that they said.
    smaller, report = tfslim.prune_channels(
        model, budget=budget.Budget(pruning_ratio=0.5, divisor=1)
    )
    x = np.random.default_rng(1).normal(size=(200, 6)).astype(np.float32)
    expected = np.asarray(model(x))
    assert np.abs(np.asarray(smaller(x)) - expected).max() > 0.1
    fitted, done = reconstruct.reconstruct_kernels(
        model, smaller, keep=report.keep, data=[x], ridge=0.0
    )
    test = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    np.testing.assert_allclose(
        np.asarray(fitted(test)), np.asarray(model(test)), atol=1e-4
    )
    before, after = done.errors["out"]
    assert before > 0.05
    assert after < 1e-5
    assert type(fitted).__module__.startswith(k.__name__ + ".")


@BOTH
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolutions_come_nearer_on_unseen_inputs(k, padding):
    inputs = k.Input((12, 12, 3))
    x = k.layers.Conv2D(16, 3, padding=padding, activation="relu", name="a")(inputs)
    x = k.layers.Conv2D(16, 3, strides=2, padding=padding, use_bias=False, name="b")(x)
    x = k.layers.BatchNormalization(name="bn")(x)
    x = k.layers.ReLU()(x)
    x = k.layers.Conv2D(8, 1, name="c")(x)
    model = k.Model(inputs, k.layers.GlobalAveragePooling2D()(x))
    smaller, report = tfslim.prune_channels(
        model, budget=budget.Budget(pruning_ratio=0.25, divisor=1)
    )
    random = np.random.default_rng(0)
    x, test = (random.normal(size=(64, 12, 12, 3)).astype("float32") for _ in range(2))
    fitted, done = reconstruct.reconstruct_kernels(
        model, smaller, keep=report.keep, data=[x[:32], x[32:]]
    )
    expected = np.asarray(model(test))

    def error(candidate):
        return np.linalg.norm(np.asarray(candidate(test)) - expected)

    assert set(done.errors) == {"b", "c"}
    assert all(after < before for before, after in done.errors.values())
    assert error(fitted) < 0.7 * error(smaller)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2, "padding": "same"},
        {"strides": (2, 3), "padding": "valid", "use_bias": False},
        {"dilation_rate": (2, 1), "padding": "same"},
    ],
    ids=str,
)
@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_every_form_of_convolution_is_got_back_exactly(k, options):
    inputs = k.Input((11, 8, 3))
    x = k.layers.Conv2D(8, 1, activation="relu", name="copies")(inputs)
    model = k.Model(inputs, k.layers.Conv2D(5, (3, 2), name="out", **options)(x))
    random = np.random.default_rng(0)
    kernel = random.normal(size=(1, 1, 3, 4))
    kernel /= np.abs(kernel).sum(axis=2)  # So the smaller copies go.
    kernel = np.concatenate([2 * kernel, kernel], axis=-1)
    model.get_layer("copies").set_weights([kernel, np.zeros(8)])
    smaller, report = tfslim.prune_channels(
        model, budget=budget.Budget(pruning_ratio=0.5, divisor=1)
    )
    x, test = (random.normal(size=(40, 11, 8, 3)).astype("float32") for _ in range(2))
    fitted, _ = reconstruct.reconstruct_kernels(
        model, smaller, keep=report.keep, data=[x[:30], x[30:]], ridge=0.0
    )
    expected = np.asarray(model(test))
    assert np.abs(np.asarray(smaller(test)) - expected).max() > 0.1
    np.testing.assert_allclose(np.asarray(fitted(test)), expected, atol=1e-4)


def test_what_is_not_fitted_is_named():
    inputs = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Conv2D(8, 3, name="a")(inputs)
    x = tf_keras.layers.Conv2DTranspose(4, 3, name="up")(x)
    model = tf_keras.Model(inputs, x)
    smaller, report = tfslim.prune_channels(
        model, budget=budget.Budget(pruning_ratio=0.5, divisor=1)
    )
    x = np.zeros((1, 8, 8, 3), np.float32)
    _, done = reconstruct.reconstruct_kernels(
        model, smaller, keep=report.keep, data=[x]
    )
    assert done.skipped == {"up": "Conv2DTranspose is not fitted"}
    with pytest.raises(errors.DataError, match="no batch"):
        reconstruct.reconstruct_kernels(model, smaller, keep=report.keep, data=[])
