"""Models of every precision become the same network in float32."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.graph import models
from tfslim import convert_model, prune_channels, tflite
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
POLICIES = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")
X = np.random.default_rng(0).random((4, 8, 8, 3)).astype("float32")


def _set_policy(k, policy):
    if k is keras:
        keras.config.set_dtype_policy(policy)
    else:
        tf_keras.mixed_precision.set_global_policy(policy)


@pytest.fixture(autouse=True)
def _float32_again():
    yield
    for k in (keras, tf_keras):
        _set_policy(k, "float32")


def _model(k, **options):
    x = k.Input((8, 8, 3))
    y = k.layers.Conv2D(16, 3, activation="relu", **options)(x)
    y = k.layers.Conv2D(8, 1, **options)(y)
    y = k.layers.BatchNormalization(**options)(y) * 2.0 + 1.0
    y = k.layers.TimeDistributed(k.layers.Dense(4, **options), **options)(y)
    y = k.layers.GlobalAveragePooling2D(**options)(y)
    return k.Model(x, k.layers.Dense(3, activation="softmax", **options)(y))


@BOTH
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("everywhere", [True, False], ids=["global", "layers"])
def test_float32_twin_has_the_weights_and_computes_the_same(k, policy, everywhere):
    if everywhere:
        _set_policy(k, policy)
    model = models.randomize(_model(k, **({} if everywhere else {"dtype": policy})))
    twin, found = graph_keras.to_float32(model)
    assert found == (policy,)
    # The truth: the network built in float32, given the weights as they are.
    _set_policy(k, "float32")
    truth = _model(k)
    truth.set_weights([np.asarray(w, "float32") for w in model.get_weights()])
    got = twin.predict(X, verbose=0)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, truth.predict(X, verbose=0), atol=1e-6)
    assert {tf.as_dtype(w.dtype) for w in twin.weights} == {tf.float32}


@BOTH
def test_float32_model_is_returned_as_it_is(k):
    model = _model(k)
    assert graph_keras.to_float32(model) == (model, ())
    # A layer without weights in another type changes nothing that is computed.
    _set_policy(k, "mixed_float16")
    assert graph_keras.to_float32(model) == (model, ())


@BOTH
@pytest.mark.parametrize("policy", ["float16", "mixed_bfloat16"])
def test_such_models_convert_and_are_pruned(k, policy):
    model = models.randomize(_model(k, dtype=policy))
    done = convert_model(model)
    assert done.notes == (f"computes in float32, the model in {policy}",)
    twin, _ = graph_keras.to_float32(model)
    [found] = tflite.run(done.tflite, [X[:1]])
    np.testing.assert_allclose(found, twin.predict(X[:1], verbose=0), atol=1e-5)
    half = budget.Budget(pruning_ratio=0.5, divisor=1)
    smaller, report = prune_channels(model, budget=half)
    assert report.error < 1e-4
    assert smaller.count_params() < model.count_params()
