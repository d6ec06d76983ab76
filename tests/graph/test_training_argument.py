"""What a user wrote for `training` and masks is kept, what Keras 3 recorded is not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tf_keras

from tests.graph import models
from tfslim import errors, to_keras3, to_tf_keras
from tfslim.graph import keras as graph_keras

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _kwargs(model):
    graph = graph_keras.read(model)
    return [dict(node.kwargs) for node in graph.nodes if node.inputs]


@keras.saving.register_keras_serializable("tfslim_tests")
class Shaky(keras.layers.Layer):
    """A layer of the user's whose own default is to act."""

    def call(self, x, training=True):
        return x * 3.0 if training else x


@pytest.mark.parametrize(
    ("make", "given", "kept"),
    [
        (lambda k: k.layers.Dropout(0.5), {}, {}),
        (lambda k: k.layers.Dropout(0.5), {"training": False}, {}),
        (lambda k: k.layers.Dropout(0.5), {"training": True}, {"training": True}),
        (lambda k: k.layers.RandomFlip(), {}, {}),
        (lambda k: k.layers.RandomFlip(), {"training": False}, {"training": False}),
        (lambda k: k.layers.BatchNormalization(), {}, {}),
        (lambda k: k.layers.BatchNormalization(), {"training": 0}, {"training": 0}),
        (lambda k: Shaky(), {}, {}),
    ],
)
def test_keras3_default_of_training_is_not_taken_for_the_users(make, given, kept):
    x = keras.Input((6, 6, 3))
    assert _kwargs(keras.Model(x, make(keras)(x, **given))) == [kept]


@BOTH
def test_frozen_normalization_of_a_base_is_kept_across(k):
    image = k.Input((4,))
    base = k.Model(image, k.layers.BatchNormalization(name="norm")(image))
    x = k.Input((4,))
    model = models.randomize(k.Model(x, base(x, training=False)))
    for there in (to_tf_keras, to_keras3):
        assert _kwargs(there(model)) == [{"training": False}]
    # tf_keras holds to it in training, too: the statistics stay.
    carried = to_tf_keras(model)
    before = carried.get_weights()
    carried(np.ones((8, 4), "float32") * 7, training=True)
    for old, new in zip(before, carried.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_dropout_that_keras3_ignores_in_predict_does_nothing_in_tf_keras():
    x = keras.Input((50,))
    model = keras.Model(x, keras.layers.Dropout(0.5)(x, training=True))
    ones = np.ones((2, 50), "float32")
    np.testing.assert_array_equal(model.predict(ones, verbose=0), ones)
    np.testing.assert_array_equal(to_tf_keras(model).predict(ones, verbose=0), ones)
    # In Keras 3 it stays what it was: a bare call drops.
    assert (np.asarray(to_keras3(model)(ones)) == 0).any()


def test_dropout_that_always_acts_stays_in_tf_keras_and_has_no_equal_in_keras3():
    x = tf_keras.Input((50,))
    model = tf_keras.Model(x, tf_keras.layers.Dropout(0.5)(x, training=True))
    ones = np.ones((2, 50), "float32")
    assert (to_tf_keras(model).predict(ones, verbose=0) == 0).any()
    with pytest.raises(errors.GraphError, match="training=True"):
        to_keras3(model)


@BOTH
@pytest.mark.parametrize("between", ["nothing", "Dropout", "Activation"])
def test_masks_reach_the_layers_that_need_them(k, between):
    x = k.Input((6, 3))
    y = k.layers.Masking()(x)
    if between != "nothing":
        argument = 0.5 if between == "Dropout" else "tanh"
        y = getattr(k.layers, between)(argument)(y)
    model = models.randomize(k.Model(x, k.layers.SimpleRNN(4)(y)))
    values = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    values[:, 3:] = 0
    wanted = np.asarray(model(values, training=False))
    for there in (to_tf_keras, to_keras3):
        assert all(set(found) <= {"training"} for found in _kwargs(there(model)))
        found = np.asarray(there(model)(values, training=False))
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_unnamed_layers_inside_a_layer_are_found_again():
    @keras.saving.register_keras_serializable("tfslim_tests")
    class Block(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.parts = [keras.layers.Dense(3) for _ in range(3)]

        def build(self, shape):
            for part in self.parts:
                part.build((None, 3))
            self.built = True

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    x = keras.Input((3,))
    model = models.randomize(keras.Model(x, Block()(x)))
    graph = graph_keras.read(model)
    [block] = [layer for layer in graph.layers.values() if layer.weights]
    assert list(block.weights)[:4] == ["kernel", "bias", "kernel_1", "bias_1"]
    values = np.ones((2, 3), "float32")
    for written in (graph_keras.write(graph, "keras") for _ in range(2)):
        np.testing.assert_array_equal(written(values), model(values))


def test_a_layer_that_keras_cannot_build_is_named():
    x = tf_keras.Input((6, 4))
    lstm = tf_keras.layers.LSTM(3, activation="hard_sigmoid", name="odd")
    model = tf_keras.Model(x, lstm(x))
    with pytest.raises(errors.GraphError, match=r"'odd'.*hard_sigmoid_legacy"):
        to_keras3(model)
