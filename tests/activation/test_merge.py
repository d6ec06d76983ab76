"""Merged units: equal outputs, and as few units as the closed form says."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.graph import models
from tfslim import errors
from tfslim.activation import merge

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
RNG = np.random.default_rng(0)


def _mlp(k, kernel, bias, out, *, inputs=2):
    x = k.Input((inputs,))
    kernel, out = np.asarray(kernel, float), np.asarray(out, float)
    y = k.layers.Dense(
        kernel.shape[1], activation="relu", name="hidden", use_bias=bias is not None
    )(x)
    model = k.Model(x, k.layers.Dense(out.shape[1], name="out")(y))
    first = [kernel] if bias is None else [kernel, np.asarray(bias, float)]
    model.set_weights([*first, out, RNG.normal(size=out.shape[1])])
    return model


def _assert_equal(one, other, x):
    np.testing.assert_allclose(
        np.asarray(one(x)), np.asarray(other(x)), rtol=1e-5, atol=2e-5
    )


@BOTH
def test_multiples_become_one_for_every_input(k):
    # Units 0 and 2 are collinear, 1 is their opposite, 3 another direction.
    kernel = [[1.0, -1.0, 2.0, 0.5], [2.0, -2.0, 4.0, -1.0]]
    bias = [-1.0, 1.0, -2.0, 0.3]
    model = _mlp(k, kernel, bias, RNG.normal(size=(4, 2)))
    x = RNG.normal(size=(64, 2)).astype("float32")
    merged, report = tfslim.merge_units(model, x, linear="keep")
    assert report.merged == {"hidden": (4, 3)} and report.error < 1e-6
    assert merged.get_layer("hidden").units == 3
    _assert_equal(model, merged, 10 * RNG.normal(size=(200, 2)).astype("float32"))


@BOTH
def test_units_that_are_always_active_are_one_direction(k):
    """One output on inputs in [0, 1]: rank 1, and never negative."""
    model = _mlp(k, RNG.uniform(0.1, 1, (2, 50)), np.full(50, 0.1), np.ones((50, 1)))
    x = RNG.uniform(0, 1, (100, 2)).astype("float32")
    merged, report = tfslim.merge_units(model, x)
    assert report.merged == {"hidden": (50, 1)}
    _assert_equal(model, merged, RNG.uniform(0, 1, (500, 2)).astype("float32"))


@pytest.mark.parametrize(("form", "units"), [("pair", 2), ("shift", 1)])
def test_signed_inputs_need_a_pair_or_a_shift(form, units):
    # |w x| <= 2 on [-1, 1]^2, so a bias of 3 keeps every unit active.
    model = _mlp(
        tf_keras, RNG.uniform(-1, 1, (2, 20)), np.full(20, 3.0), np.ones((20, 1))
    )
    x = RNG.uniform(-1, 1, (300, 2)).astype("float32")
    merged, report = tfslim.merge_units(model, x, linear=form)
    assert report.merged == {"hidden": (20, units)}
    _assert_equal(model, merged, x)
    if form == "pair":
        # Linear without end: relu(u) - relu(-u) = u.
        far = 0.99 * RNG.uniform(-1, 1, (300, 2)).astype("float32")
        _assert_equal(model, merged, far)


def test_rank_decides_how_many_stay():
    """Three outputs of four inputs: rank 3, so three directions."""
    model = _mlp(
        tf_keras,
        RNG.normal(size=(4, 40)),
        np.full(40, 9.0),
        RNG.normal(size=(40, 3)),
        inputs=4,
    )
    x = RNG.uniform(-1, 1, (200, 4)).astype("float32")
    for form, units in (("pair", 6), ("shift", 3)):
        merged, report = tfslim.merge_units(model, x, linear=form)
        assert report.merged == {"hidden": (40, units)}
        _assert_equal(model, merged, x)


def test_units_that_switch_stay():
    kernel, bias = RNG.normal(size=(2, 30)), RNG.normal(size=30)
    model = _mlp(tf_keras, kernel, bias, RNG.normal(size=(30, 1)))
    x = RNG.normal(size=(2000, 2)).astype("float32")
    merged, report = tfslim.merge_units(model, x)
    switching = ((x @ kernel + bias) > 0).mean(axis=0)
    always = int((switching == 1).sum())
    saved = max(0, always - 2) if always else 0
    assert merged.get_layer("hidden").units == 30 - saved
    _assert_equal(model, merged, x)
    assert report.error < 1e-5


def _convolutions(k):
    x = y = k.Input((8, 8, 3))
    y = k.layers.Conv2D(6, 3, padding="same", name="conv")(y)
    y = k.layers.BatchNormalization(name="norm")(y)
    y = k.layers.MaxPooling2D(2)(k.layers.ReLU()(y))
    y = k.layers.Conv2DTranspose(5, 3, strides=2, activation="relu", name="up")(y)
    y = k.layers.Flatten()(y)
    return models.randomize(k.Model(x, k.layers.Dense(4, name="head")(y)))


@BOTH
def test_collinear_filters_behind_normalization_pooling_and_flatten(k):
    model = _convolutions(k)
    kernel, bias = model.get_layer("conv").get_weights()
    gamma, beta, mean, variance = model.get_layer("norm").get_weights()
    # Filter 4 after its normalization is 2.5 times filter 1, by another way.
    kernel[..., 4], bias[4] = 7 * kernel[..., 1], 0.25
    epsilon = model.get_layer("norm").epsilon
    scale = gamma[1] / np.sqrt(variance[1] + epsilon)
    gamma[4] = 2.5 * scale / 7 * np.sqrt(variance[4] + epsilon)
    shift = (bias[1] - mean[1]) * scale + beta[1]
    beta[4] = 2.5 * shift - (bias[4] - mean[4]) * 2.5 * scale / 7
    model.get_layer("conv").set_weights([kernel, bias])
    model.get_layer("norm").set_weights([gamma, beta, mean, variance])
    kernel, bias = model.get_layer("up").get_weights()
    kernel[:, :, 3], bias[3] = 0.5 * kernel[:, :, 0], 0.5 * bias[0]
    model.get_layer("up").set_weights([kernel, bias])
    x = RNG.normal(size=(6, 8, 8, 3)).astype("float32")
    _, report = tfslim.merge_units(model, x)
    assert report.merged == {"conv": (6, 5), "up": (5, 4)}
    assert report.error < 1e-5


def test_pointwise_convolutions_are_linear_maps_too():
    k = tf_keras
    x = y = k.Input((6, 6, 2))
    y = k.layers.Conv2D(12, 3, padding="same", name="conv")(y)
    y = k.layers.ReLU()(y)
    y = k.layers.Conv2D(2, 1, use_bias=False, name="mix")(y)
    model = models.randomize(k.Model(x, k.layers.GlobalMaxPooling2D()(y)))
    kernel, _ = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel, np.full(12, 50.0)])
    data = RNG.normal(size=(8, 6, 6, 2)).astype("float32")
    _, report = tfslim.merge_units(model, data, linear="shift")
    assert report.merged == {"conv": (12, 2)} and report.error < 1e-5


def test_what_does_not_scale_is_left_alone():
    k = tf_keras
    x = k.Input((4,))
    for activation in ("relu6", "sigmoid", "gelu"):
        y = k.layers.Dense(6, activation=activation, name="hidden")(x)
        model = k.Model(x, k.layers.Dense(2)(y))
        kernel, bias = model.get_layer("hidden").get_weights()
        kernel[:, 1] = 2 * kernel[:, 0]
        model.get_layer("hidden").set_weights([kernel, bias])
        _, report = tfslim.merge_units(model, RNG.normal(size=(9, 4)).astype("float32"))
        assert not report.merged


def test_a_residual_sum_is_left_alone():
    k = tf_keras
    x = k.Input((4,))
    y = k.layers.Dense(6, activation="relu", name="one")(x)
    y = k.layers.Add()([y, k.layers.Dense(6, activation="relu", name="two")(x)])
    model = k.Model(x, k.layers.Dense(2)(y))
    model.set_weights([np.ones_like(w) for w in model.get_weights()])
    _, report = tfslim.merge_units(model, np.ones((3, 4), "float32"))
    assert not report.merged


def test_a_model_of_mixed_precision_is_proved_in_float32():
    k = tf_keras
    x = k.Input((4,))
    y = k.layers.Dense(6, activation="relu", name="hidden", dtype="mixed_bfloat16")(x)
    model = models.randomize(k.Model(x, k.layers.Dense(2, activation="softmax")(y)))
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[:, 1], bias[1] = 3 * kernel[:, 0], 3 * bias[0]
    model.get_layer("hidden").set_weights([kernel, bias])
    data = RNG.normal(size=(40, 4)).astype("float32")
    merged, report = tfslim.merge_units(model, data, linear="keep")
    assert report.merged == {"hidden": (6, 5)} and report.error < 1e-5
    assert merged.get_layer("hidden").compute_dtype == "bfloat16"


def test_a_coarse_tolerance_fails_the_proof():
    kernel = np.array([[1.0, 1.0], [1.0, 1.2]])
    model = _mlp(tf_keras, kernel, [0.0, 0.0], [[1.0], [1.0]])
    x = RNG.normal(size=(50, 2)).astype("float32")
    with pytest.raises(errors.VerificationError, match="not collinear enough"):
        tfslim.merge_units(model, x, linear="keep", tolerance=0.5)
    with pytest.raises(errors.ConfigError, match="Known: keep, pair, shift"):
        tfslim.merge_units(model, x, linear="triple")


@BOTH
def test_balanced_units_have_equal_norms_and_equal_outputs(k):
    model = models.randomize(
        _mlp(k, np.ones((3, 5)), np.ones(5), np.ones((5, 2)), inputs=3)
    )
    kernel, bias = model.get_layer("hidden").get_weights()
    model.get_layer("hidden").set_weights([kernel * 50, bias * 50])
    balanced = merge.balance_units(model)
    kernel, bias = balanced.get_layer("hidden").get_weights()
    out, _ = balanced.get_layer("out").get_weights()
    inward = np.linalg.norm(np.vstack([kernel, bias]), axis=0)
    np.testing.assert_allclose(inward, np.linalg.norm(out, axis=1), rtol=1e-4)
    x = RNG.normal(size=(20, 3)).astype("float32")
    np.testing.assert_allclose(model(x), balanced(x), rtol=1e-4, atol=1e-4)
