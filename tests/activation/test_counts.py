"""Activation counts against what numpy counts in the layers' own outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tests.graph import models
from tfslim import errors
from tfslim.activation import counts as activity
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
RNG = np.random.default_rng(0)


def _network(k):
    """Dense, Conv and Conv2DTranspose, with all the ways to be activated."""
    x = y = k.Input((8, 8, 2), name="x")
    y = k.layers.Conv2D(6, 3, padding="same", activation="relu", name="inside")(y)
    y = k.layers.MaxPooling2D(2)(y)
    y = k.layers.Conv2D(5, 3, padding="same", name="normed")(y)
    y = k.layers.BatchNormalization(name="norm")(y)
    y = k.layers.ReLU(name="normed_relu")(y)
    y = k.layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(y)
    y = k.layers.LeakyReLU(name="up_leaky")(y)
    y = k.layers.Flatten()(y)
    y = k.layers.Dense(7, activation="relu", name="units")(y)
    y = k.layers.Dropout(0.5)(y)
    return models.randomize(k.Model(x, k.layers.Dense(3, name="head")(y)))


# What makes the channels -> where they are active.
_PLACES = {"inside": "inside", "normed": "normed_relu", "up": "up_leaky"}


@BOTH
def test_counts_are_those_of_numpy(k):
    model = _network(k)
    data = RNG.normal(size=(30, 8, 8, 2)).astype("float32")
    batches = [(data[:17], None), (data[17:], None)]
    found = tfslim.count_activations(model, batches)
    assert set(found.counts) == {*_PLACES, "units"} and not found.uncounted
    for name, place in {**_PLACES, "units": "units"}.items():
        seen = np.asarray(k.Model(model.input, model.get_layer(place).output)(data))
        seen = seen.reshape(-1, seen.shape[-1])
        np.testing.assert_array_equal(found.counts[name], (seen > 0).sum(axis=0))
        np.testing.assert_allclose(found.rates[name], (seen > 0).mean(axis=0))
        np.testing.assert_allclose(found.deviations[name], seen.std(axis=0), rtol=1e-3)


@BOTH
def test_all_kinds_of_data_count_alike(k):
    model = _network(k)
    x = RNG.normal(size=(300, 8, 8, 2)).astype("float32")
    y = np.zeros(300)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(100)
    wanted = tfslim.count_activations(model, x)
    for data in ((x, y), dataset, [x[:7], x[7:]], lambda epoch: dataset):
        found = tfslim.count_activations(model, data)
        for name, counts in wanted.counts.items():
            np.testing.assert_array_equal(found.counts[name], counts)


def test_a_residual_trunk_counts_behind_the_additions():
    """A channel is read behind two ReLUs: the place where it is active most counts."""
    k = tf_keras
    x = k.Input((6,))
    y = k.layers.Dense(4, name="stem")(x)
    first = k.layers.ReLU(name="first")(y)
    z = k.layers.Dense(4, name="branch")(k.layers.Dense(3, activation="relu")(first))
    last = k.layers.ReLU(name="last")(k.layers.Add()([first, z]))
    model = models.randomize(k.Model(x, k.layers.Dense(2)(last)))
    data = RNG.normal(size=(50, 6)).astype("float32")
    found = tfslim.count_activations(model, data)
    seen = [np.asarray(k.Model(x, t)(data)) > 0 for t in (first, last)]
    wanted = np.maximum(seen[0].sum(axis=0), seen[1].sum(axis=0))
    np.testing.assert_array_equal(found.counts["stem"], wanted)


def test_concatenated_gated_and_normalized_channels_count_at_their_activation():
    k = tf_keras
    x = k.Input((8, 8, 3))
    a = k.layers.Conv2D(4, 1, activation="relu", name="a")(x)
    b = k.layers.ReLU(name="b_relu")(k.layers.Conv2D(5, 1, name="b")(x))
    y = k.layers.BatchNormalization()(k.layers.Concatenate()([a, b]))
    gated = k.layers.Conv2D(6, 1, activation="relu", name="gated")(y)
    gate = k.layers.Dense(6, activation="sigmoid", name="gate")(
        k.layers.GlobalAveragePooling2D(keepdims=True)(gated)
    )
    y = k.layers.Multiply()([gated, gate])
    y = k.layers.DepthwiseConv2D(3, name="depthwise")(y)
    model = models.randomize(k.Model(x, k.layers.Conv2D(2, 1)(y)))
    data = RNG.normal(size=(10, 8, 8, 3)).astype("float32")
    found = tfslim.count_activations(model, data)
    for name, tensor in {"a": a, "b": b, "gated": gated}.items():
        wanted = (np.asarray(k.Model(x, tensor)(data)) > 0).sum(axis=(0, 1, 2))
        np.testing.assert_array_equal(found.counts[name], wanted)


def test_what_has_no_count_is_told():
    k = tf_keras
    x = k.Input((6,))
    linear = k.layers.Dense(4, name="linear")(x)
    squashed = k.layers.Dense(4, activation="sigmoid", name="squashed")(linear)
    custom = k.layers.Dense(4, activation=lambda t: t, name="custom")(squashed)
    y = k.layers.Dense(4, activation="tanh", name="both")(custom)
    model = k.Model(x, k.layers.Dense(2)(y))
    found = tfslim.count_activations(model, np.zeros((3, 6), "float32"))
    assert not found.counts
    assert "no activation" in found.uncounted["linear"]
    assert "sigmoid" in found.uncounted["squashed"]
    assert "tanh" in found.uncounted["both"]


def test_idle_channels_can_go_without_a_trace():
    """The outputs on the data stay when channels of count 0 are removed."""
    model = _network(tf_keras)
    weights = model.get_layer("units").get_weights()
    weights[1][:4] = -100.0
    model.get_layer("units").set_weights(weights)
    data = RNG.normal(size=(20, 8, 8, 2)).astype("float32")
    counts = tfslim.count_activations(model, data).counts["units"]
    assert (counts[:4] == 0).all()
    without = [weights[0] * (counts > 0), weights[1]]
    model_without = tf_keras.models.clone_model(model)
    model_without.set_weights(model.get_weights())
    model_without.get_layer("units").set_weights(without)
    np.testing.assert_allclose(model(data), model_without(data), rtol=1e-6)


def test_contributions_by_hand():
    k = tf_keras
    x = k.Input((2,))
    y = k.layers.Dense(2, activation="relu", use_bias=False, name="hidden")(x)
    model = k.Model(x, k.layers.Dense(2, use_bias=False)(y))
    model.set_weights([np.eye(2), np.array([[3.0, 4.0], [1.0, 0.0]])])
    channels = channels_lib.analyze(graph_keras.read(model))
    # Unit 1: values 0 and 2, deviation 1, weights 5; unit 2: 0 and 24, 12, 1.
    data = np.array([[0.0, 24.0], [2.0, 0.0]], "float32")
    seen = activity.count_channels(channels, "tf_keras", data=data)
    found = activity.contributions(channels, seen)["hidden"]
    np.testing.assert_allclose(found, [5 / 13, 12 / 13], rtol=1e-6)


def test_no_data():
    with pytest.raises(errors.DataError, match="no batch"):
        tfslim.count_activations(_network(tf_keras), [])
    with pytest.raises(errors.ConfigError, match="data is a int"):
        tfslim.count_activations(_network(tf_keras), 3)
