"""Training on inputs that are normalized already, of a model that does it itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import TfslimWarning, fit
from tfslim.training import input_range

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (8, 4, 4, 3)).astype(np.float32)
Y = np.arange(8) % 2


def _model(package, *scaling):
    inputs = package.Input((4, 4, 3))
    x = inputs
    for layer in scaling:
        x = layer(x)
    x = package.layers.Flatten()(x)
    return package.Model(inputs, package.layers.Dense(2, activation="softmax")(x))


def _doubts(model, x):
    return input_range.doubts(model, tf.data.Dataset.from_tensors((x, Y)))


@pytest.mark.parametrize("package", [tf_keras, keras])
def test_fit_warns_before_it_trains(package):
    layers = package.layers
    nested = package.Sequential([layers.Rescaling(1 / 127.5, -1, name="own")])
    model = _model(package, layers.RandomFlip(), nested)
    with pytest.warns(TfslimWarning, match=r"'own' makes \[-1\.008, -0\.99.* 4 of"):
        fit(model, (X, Y), task="classification", epochs=1)


@pytest.mark.parametrize("package", [tf_keras, keras])
def test_functions_that_scale_are_seen(package):
    model = _model(package, lambda x: x / 127.5, lambda x: x - 1)
    assert "makes [-1.008, -0.99" in _doubts(model, X)[0]
    assert not _doubts(model, 127.5 + 127.5 * X)


def test_statistics_that_fit_the_data_are_no_doubt():
    normalization = tf_keras.layers.Normalization()
    normalization.adapt(1000 + X)
    model = _model(tf_keras, normalization)
    assert not _doubts(model, 1000 + X)
    assert "Feed it what the layer is made for" in _doubts(model, X)[0]


def test_of_several_inputs_the_one_is_named():
    first, second = tf_keras.Input((3,), name="first"), tf_keras.Input((3,), name="b")
    scaled = [
        tf_keras.layers.Rescaling(1 / 255, name="ones")(first),
        tf_keras.layers.Rescaling(1.0, -128, name="twice")(second),
    ]
    joined = tf_keras.layers.Concatenate()(scaled)
    model = tf_keras.Model([first, second], tf_keras.layers.Dense(2)(joined))
    x = {"b": X[:, 0, 0], "first": 255 * X[:, 0, 0]}
    (text,) = _doubts(model, x)
    assert "'twice'" in text
    (text,) = _doubts(model, (x["first"], x["b"]))
    assert "'twice'" in text


def test_a_model_that_scales_nothing_reads_no_data():
    unread = tf.data.Dataset.from_generator(
        lambda: pytest.fail("was read"), output_signature=tf.TensorSpec((4, 4, 3))
    )
    assert input_range.doubts(_model(tf_keras), unread) == []
