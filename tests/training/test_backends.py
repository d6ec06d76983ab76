"""On another backend of Keras 3, what works with TensorFlow only says so."""

import keras
import numpy as np
import pytest

import tfslim
from tfslim import errors
from tfslim.graph import keras as graph_keras


def _model():
    x = keras.Input((4,))
    y = keras.layers.BatchNormalization()(keras.layers.Dense(16)(x))
    return keras.Model(x, keras.layers.Dense(2)(y))


def _slimming(model):
    callback = tfslim.callbacks.NetworkSlimming()
    callback.set_model(model)
    callback.on_train_begin()


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize(
    "use",
    [
        lambda model: tfslim.optimizers.ProxSGD(model),
        lambda model: tfslim.optimizers.Proximal("adam", model),
        lambda model: tfslim.optimizers.proximal_step(model, 0.1, strength=0.1),
        lambda model: tfslim.callbacks.slimming_penalty(model, 0.1),
        _slimming,
    ],
)
def test_is_refused_in_a_line(use, backend, monkeypatch):
    model = _model()
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(errors.ConfigError, match=f"runs on {backend}") as caught:
        use(model)
    assert "\n" not in str(caught.value)


def test_models_are_looked_into_by_way_of_tf_keras(monkeypatch):
    model = _model()
    data = [np.random.default_rng(0).normal(size=(8, 4)).astype("float32")]
    truth = tfslim.count_activations(model, data[0]).uncounted
    monkeypatch.setattr(graph_keras, "backend", lambda: "torch")
    assert tfslim.count_activations(model, data[0]).uncounted == truth
    assert type(tfslim.recalibrate_batch_norm(model, data)).__module__.startswith(
        "keras"
    )
