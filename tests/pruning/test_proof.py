"""The proof of a cut: compiled, and with the model saved and loaded."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.graph import models
from tfslim import errors, prune_channels
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget, proof

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
HALF = budget.Budget(pruning_ratio=0.5, divisor=1)
SLICES = {
    "first": lambda x: x[:, :, :, :16],
    "ellipsis": lambda x: x[..., 4:],
    "step": lambda x: x[..., ::2],
    "rows": lambda x: x[:, 1:-1],
}


# Keras 3 cannot load a slice from .h5, whoever made the model.
@pytest.mark.parametrize(
    ("k", "ending"), [(tf_keras, "keras"), (tf_keras, "h5"), (keras, "keras")]
)
@pytest.mark.parametrize("part", SLICES)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_cut_model_with_a_slice_is_saved_and_loaded(k, part, ending, tmp_path):
    x = k.Input((8, 8, 4))
    y = k.layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    y = k.layers.Conv2D(32, 3)(SLICES[part](y))
    model = models.randomize(k.Model(x, k.layers.GlobalMaxPooling2D()(y)))
    smaller, _ = prune_channels(model, budget=HALF)
    # No rule knows which channels a step takes: they stay.
    assert (smaller.count_params() < model.count_params()) == (part != "step")
    path = tmp_path / f"model.{ending}"
    smaller.save(path)
    values = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    loaded = k.models.load_model(path)
    np.testing.assert_array_equal(loaded(values), smaller(values))


def _plain(k):
    x = k.Input((4,))
    y = k.layers.Dense(16, activation="relu")(x)
    return models.randomize(k.Model(x, k.layers.Dense(2)(y)))


@BOTH
def test_model_that_its_own_original_outlives_is_a_fault(k, monkeypatch):
    model = _plain(k)
    graph = graph_keras.read(model)
    lost = _plain(k)
    monkeypatch.setattr(lost, "save", lambda path: _plain(k).save(path))
    inputs = proof.random_inputs(graph)
    shifted = models.randomize(lost, seed=3)
    with pytest.raises(errors.VerificationError, match="saved and loaded"):
        proof.check_savable(shifted, graph, original=model, inputs=inputs)
    # Where the original is lost as well, it is said.
    assert "differ" in proof.check_savable(
        shifted, graph, original=shifted, inputs=inputs
    )


@BOTH
def test_users_class_need_not_be_registered(k):
    class Twice(k.layers.Layer):
        def call(self, x):
            return 2.0 * x

    x = k.Input((4,))
    y = Twice()(k.layers.Dense(16)(k.layers.Dense(16, activation="relu")(x)))
    _, report = prune_channels(k.Model(x, y), budget=HALF)
    assert not any("load" in note for note in report.notes)


def test_channels_first_is_proved_as_predict_runs_it():
    # Keras 3 called eagerly is wrong here on a CPU, see tfslim.graph.keras_run.
    x = keras.Input((3, 16, 16))
    first = {"padding": "same", "data_format": "channels_first", "activation": "relu"}
    y = keras.layers.Conv2D(16, 3, **first)(x)
    y = keras.layers.Conv2D(16, 3, **first)(y)
    y = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(y)
    model = models.randomize(keras.Model(x, keras.layers.Dense(3)(y)))
    values = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype("float32")
    try:
        model.predict(values, verbose=0)
    except tf.errors.UnimplementedError:
        with pytest.raises(errors.VerificationError, match="cannot run here"):
            prune_channels(model, budget=HALF)
        pytest.skip("no channels_first convolution on this CPU (oneDNN is off)")
    smaller, report = prune_channels(
        model, budget=HALF, criterion="mean_activation", data=[values]
    )
    assert report.error < 1e-4
    assert smaller.predict(values, verbose=0).shape == (4, 3)
