"""Factorized Keras models, built and run by both Keras."""

import os

import keras
import numpy as np
import pytest
import tf_keras

from tests.factorization.graphs import low_rank
from tests.graph import models
from tfslim.factorization.factorize_model import factorize_model
from tfslim.graph import count
from tfslim.graph import keras as graph_keras

KERAS = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def everything(k, rank):
    """A model of all that can be factorized; its kernels have at most this rank."""
    layers = k.layers
    shared = layers.Conv2D(16, 3, padding="same", activation="relu6", name="shared")
    x = k.Input((16, 16, 16), name="image")
    y = layers.Conv2D(16, 3, strides=2, padding="same", kernel_regularizer="l2")(x)
    y = layers.BatchNormalization()(y)
    y = layers.Add()([y, shared(y)])
    y = shared(y)
    y = layers.Conv2D(16, 3, dilation_rate=2, use_bias=False, name="dilated")(y)
    y = layers.Conv2D(24, 1, strides=2, activation="swish", name="pointwise")(y)
    y = layers.DepthwiseConv2D(3, padding="same")(y)
    y = layers.Conv2DTranspose(16, 3, strides=2, padding="same", name="up")(y)
    y = layers.Reshape((16, 16))(y)
    y = layers.Conv1D(16, 3, padding="causal", activation="hard_sigmoid")(y)
    y = layers.Dense(20, name="positions")(y)
    y = layers.Flatten()(y)
    model = k.Model(x, {"probs": layers.Dense(24, "softmax", name="probs")(y)})
    models.randomize(model)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if "kernel" in str([w.name for w in layer.weights]) and rank:
            values = layer.get_weights()
            if "depthwise" not in layer.name:
                values[0] = low_rank(rng, values[0].shape, rank, rank)
                layer.set_weights(values)
    return model


def difference(model, other):
    inputs = np.random.default_rng(1).normal(size=(4, 16, 16, 16)).astype("float32")
    (one,), (two,) = models.outputs(model, inputs), models.outputs(other, inputs)
    return np.abs(one - two).max() / np.abs(one).max()


@KERAS
def test_low_rank_layers_lose_nothing(k):
    model = everything(k, rank=3)
    smaller, report = factorize_model(model, energy=1.0, divisor=1)
    assert {row.name for row in report.layers} == {
        layer.name
        for layer in model.layers
        if layer.weights and not layer.name.startswith(("batch", "depthwise"))
    }
    assert difference(model, smaller) < 1e-6
    assert list(report.skipped.values()) == [
        "tucker takes convolutions, not DepthwiseConv2D"
    ]
    # The written model costs what the report says, and its output has its name.
    assert smaller.count_params() == report.after.params
    counted = count.count(graph_keras.read(smaller))
    assert counted.macs == report.after.macs < 0.6 * report.before.macs
    assert smaller.output.keys() == {"probs"}
    assert type(smaller).__module__.startswith(k.__name__)


@KERAS
def test_original_is_left_as_it_was(k):
    model = everything(k, rank=0)
    before = [w.copy() for w in model.get_weights()]
    smaller, report = factorize_model(model, target=0.6)
    assert report.after.macs <= 0.6 * report.before.macs
    assert difference(model, smaller) > 1e-3
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


DATA = os.environ.get("TFSLIM_DATA")


@pytest.mark.skipif(not DATA, reason="TFSLIM_DATA is not set: no trained network")
def test_a_trained_network_keeps_its_accuracy_while_energy_is_kept():
    model = tf_keras.models.load_model(
        f"{DATA}/models/keras/pretrainedResnet.h5", compile=False
    )
    with np.load(f"{DATA}/cifar10/cifar10_12k.npz") as arrays:
        images = arrays["x_test"][:500].astype("float32")
        classes = arrays["y_test"][:500].ravel()

    def accuracy(model):
        return np.mean(np.argmax(model(images, training=False), axis=1) == classes)

    # Tiny and densely packed: five in a hundred of the energy already cost accuracy.
    whole = accuracy(model)
    assert whole > 0.85
    kept, lost = (
        factorize_model(model, energy=energy, divisor=1) for energy in (0.97, 0.9)
    )
    assert kept[1].layers
    assert accuracy(kept[0]) > whole - 0.02
    assert 0.2 < accuracy(lost[0]) < whole - 0.1


@KERAS
def test_result_trains_and_saves(k, tmp_path):
    smaller, _ = factorize_model(everything(k, rank=0), target=0.5)
    smaller.compile("sgd", {"probs": "categorical_crossentropy"})
    inputs = np.random.default_rng(1).normal(size=(8, 16, 16, 16)).astype("float32")
    targets = np.eye(24, dtype="float32")[:8]
    first, *_, final = smaller.fit(
        inputs, {"probs": targets}, epochs=5, verbose=0
    ).history["loss"]
    assert final < first
    smaller.save(tmp_path / "model.keras")
    loaded = k.models.load_model(tmp_path / "model.keras")
    assert difference(smaller, loaded) == 0
