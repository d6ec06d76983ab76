"""Random scales against integrals, their removal, and the whole method."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy import integrate

import tfslim
from tests.training import digits
from tfslim import errors
from tfslim.bayesian import variational
from tfslim.bayesian.places import NoisyGraph
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("log_alpha", [-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0])
def test_the_divergence_is_the_integral(log_alpha):
    """E log|z| - log(alpha) / 2 and a constant that makes it 0 at the end."""
    deviation = np.exp(log_alpha / 2)

    def weighted(noise):
        density = np.exp(-0.5 * noise**2) / np.sqrt(2 * np.pi)
        return density * np.log(abs(1 + deviation * noise))

    zero = -1 / deviation
    parts = sorted({-12.0, float(np.clip(zero, -12, 12)), 12.0})
    spans = itertools.pairwise(parts)
    mean = sum(integrate.quad(weighted, *span, limit=200)[0] for span in spans)
    expected = mean - 0.5 * log_alpha + (np.euler_gamma + np.log(2)) / 2
    found = variational.divergence(tf.constant(log_alpha)).numpy()
    assert found == pytest.approx(expected, abs=0.02)


def test_a_scale_is_drawn_for_each_example_and_channel():
    layer = variational.VariationalScale(gain=2.0, seed=1)
    x = tf.ones((4000, 3, 2, 2))
    layer.build(x.shape)
    layer.scale.assign([[1.0, 0.5], [np.log(0.25) / 2, np.log(0.01) / 2]])
    np.testing.assert_allclose(layer(x)[0, 0, 0], [1.0, 0.5])
    drawn = layer(x, training=True).numpy()
    np.testing.assert_array_equal(drawn, drawn[:, :1, :1].repeat(3, 1).repeat(2, 2))
    np.testing.assert_allclose(drawn[:, 0, 0].mean(0), [1.0, 0.5], atol=0.03)
    np.testing.assert_allclose(drawn[:, 0, 0].std(0), [0.5, 0.1], rtol=0.05)
    found = layer.log_alpha(layer.scale).numpy()
    np.testing.assert_allclose(found, np.log([0.25, 0.01 / 0.25]), rtol=1e-5)


def _many_layers():
    """What makes channels here: with and without a normalization, and activations."""
    layers = tf_keras.layers
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="relu")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(6, 1, use_bias=False, name="plain")(x)
    x = layers.BatchNormalization(name="plain_bn")(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(6, 1, activation="tanh", name="tanh")(x)
    x = layers.Conv2DTranspose(5, 2, strides=2, name="transposed")(x)
    x = layers.SeparableConv2D(7, 3, name="separable")(x)
    x = layers.Conv2D(4, 1, use_bias=False, name="unscaled")(x)
    x = layers.BatchNormalization(scale=False, name="unscaled_bn")(x)
    y = layers.Conv2D(4, 1, activation="relu", name="branch")(x)
    x = layers.Flatten()(layers.Add()([x, y]))
    x = layers.Dense(9, activation="relu", name="dense")(x)
    return tf_keras.Model(inputs, layers.Dense(3, name="head")(x))


def _random_weights(model):
    for variable in model.weights:
        sign = 1 if "moving" in variable.name else RNG.choice([-1, 1], variable.shape)
        variable.assign(sign * RNG.uniform(0.1, 0.5, variable.shape))
    return model


@pytest.mark.parametrize("build", [_many_layers, lambda: digits.network(tf_keras, 8)])
def test_scales_are_taken_out_without_a_trace(build):
    model = _random_weights(build())
    graph = graph_keras.read(model)
    noisy = NoisyGraph(channels_lib.analyze(graph), gain=3.0)
    with_scales = graph_keras.write(noisy.graph, "tf_keras")
    x = RNG.normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(with_scales(x), model(x), rtol=1e-6)

    for layer in with_scales.layers:
        if isinstance(layer, variational.VariationalScale):
            scale = layer.scale.numpy()
            scale[1] = RNG.normal(size=scale.shape[1])
            if layer.has_mean:
                scale[0] = RNG.uniform(0.2, 2, scale.shape[1])
            layer.scale.assign(scale)
    plain, log_alpha = noisy.take_out(graph_keras.read(with_scales))
    assert set(plain.layers) == set(graph.layers)
    found = graph_keras.write(plain, "tf_keras")(x)
    np.testing.assert_allclose(found, with_scales(x), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, model(x), rtol=1e-2)
    for group in channels_lib.analyze(graph).groups:
        made = group.producers[0]
        norm = f"{made}_bn" if f"{made}_bn" in graph.layers else made
        scale = with_scales.get_layer(f"scale_of_{norm}")
        expected = 3.0 * scale.scale[1] - 2 * np.log(scale.scale[0])
        np.testing.assert_allclose(log_alpha[group.labels], expected, atol=1e-4)


def test_which_means_are_trained_and_what_a_trunk_shares():
    graph = graph_keras.read(_many_layers())
    layers = NoisyGraph(channels_lib.analyze(graph), gain=1.0).graph.layers
    has_mean = {
        name.removeprefix("scale_of_").removesuffix("_bn"): layer.config["has_mean"]
        for name, layer in layers.items()
        if name.startswith("scale_of_")
    }
    assert has_mean == {
        **dict.fromkeys(("relu", "plain", "transposed", "separable", "dense"), True),
        **dict.fromkeys(("tanh", "unscaled"), False),
    }
    # `branch` is added to `unscaled`, and is multiplied by the same layer.
    graph = NoisyGraph(channels_lib.analyze(graph), gain=1.0).graph
    assert [node.layer for node in graph.nodes].count("scale_of_unscaled_bn") == 2


def _two_numbers(k):
    """Which of two numbers is the larger: one hidden unit says it."""
    x = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    k.utils.set_random_seed(0)
    model = k.Sequential(
        [
            k.layers.Input((2,)),
            k.layers.Dense(32, activation="relu", name="hidden"),
            k.layers.Dense(2, activation="softmax", name="head"),
        ]
    )
    return model, {"train": (x[:1500], y[:1500]), "validation": (x[1500:], y[1500:])}


@pytest.mark.parametrize(
    "k",
    [
        pytest.param(tf_keras, marks=pytest.mark.slow, id="tf_keras"),
        pytest.param(keras, id="keras"),
    ],
)
def test_what_the_data_do_not_need_becomes_noise(k):
    model, data = _two_numbers(k)
    before = model.get_weights()
    smaller, report = tfslim.bayesian_compression(
        model,
        **data,
        divisor=1,
        sparse_epochs=15,
        fine_tune_epochs=3,
        learning_rate=0.01,
        sparse_learning_rate=0.01,
    )
    assert isinstance(smaller, k.Model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    [step] = report.steps
    units = smaller.get_layer("hidden").units
    assert units == max(1, int((step.log_alpha["hidden"] < 0.0).sum())) <= 16
    assert digits.accuracy(smaller, data["validation"]) > 0.97
    assert "hidden: " in str(report) and "log alpha" in str(report)
    assert report.skipped["head"]


def test_a_budget_takes_the_noisiest_channels():
    model, data = _two_numbers(tf_keras)
    smaller, report = tfslim.bayesian_compression(
        model,
        **data,
        budget=tfslim.Budget(pruning_ratio=0.75, divisor=1),
        sparse_epochs=2,
        fine_tune_epochs=1,
    )
    assert smaller.get_layer("hidden").units == 8
    [step] = report.steps
    kept = step.cut.keep["hidden"]
    log_alpha = step.log_alpha["hidden"]
    assert log_alpha[kept].max() <= log_alpha[~kept].min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "strength must be above 0"),
        ({"sparse_epochs": 0}, "sparse_epochs must be at least 1"),
        ({"treshold": 1.0}, "Did you mean 'threshold'"),
    ],
)
def test_wrong_options(options, message):
    model, data = _two_numbers(tf_keras)
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.bayesian_compression(model, **data, **options)


def test_a_model_without_channels():
    model = tf_keras.Sequential([tf_keras.layers.Input((2,)), tf_keras.layers.Dense(2)])
    data = (np.zeros((4, 2), np.float32), np.zeros(4, np.int64))
    with pytest.raises(errors.ConfigError, match="No channels of"):
        tfslim.bayesian_compression(model, data)
