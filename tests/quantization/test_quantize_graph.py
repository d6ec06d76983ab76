"""Equalization of Keras models through the layer graph."""

import numpy as np
import pytest

from tfslim.graph import keras as graph_keras
from tfslim.quantization import equalize_graph


def network(keras, wound):
    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, use_bias=False, name="first")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.ZeroPadding2D(name="pad")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="second")(
        x
    )
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(6, 1, activation="relu", name="third")(x)
    x = layers.Dense(10, activation="relu", name="fourth")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(4, name="logits")(x))
    rng = np.random.default_rng(0)
    weights = [w + 0.1 * rng.random(w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    norm, second = model.get_layer("norm"), model.get_layer("second")
    scale = np.ones(8)
    scale[2] = wound
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma * scale, beta * scale, mean, variance])
    kernel, bias = second.get_weights()
    second.set_weights([kernel / scale[:, None], bias])
    return model


@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_the_function_stays_and_the_channels_are_even(name):
    keras = pytest.importorskip(name)
    model = network(keras, wound=100.0)
    graph = graph_keras.read(model)
    done, rows, refused = equalize_graph(graph)
    assert rows == [
        ("first", "second"),
        ("second", "third"),
        ("third", "fourth"),
        ("fourth", "logits"),
    ]
    assert [(r.tensor, r.reason) for r in refused] == [
        ("logits", "It is an output of the model.")
    ]
    x = np.random.default_rng(1).normal(size=(4, 12, 12, 3)).astype(np.float32)
    truth = np.asarray(model(x))
    np.testing.assert_allclose(
        np.asarray(graph_keras.write(done, name)(x)),
        truth,
        atol=1e-5 * np.abs(truth).max(),
    )
    before, after = (np.abs(g.layers["norm"].weights["gamma"]) for g in (graph, done))
    assert before.max() / np.median(before) > 50
    assert after.max() / np.median(after) < 15


def test_what_stops_a_factor_is_named():
    import tf_keras
    from tf_keras import layers

    x = inputs = tf_keras.Input((8, 8, 3))
    x = layers.ReLU(6.0, name="six")(layers.Conv2D(4, 3, padding="same", name="a")(x))
    y = layers.Conv2D(4, 3, padding="same", activation="tanh", name="b")(x)
    z = layers.Add(name="add")([x, layers.Conv2D(4, 1, name="c")(y)])
    z = layers.Conv2D(4, 1, name="d")(z)
    graph = graph_keras.read(tf_keras.Model(inputs, [z, layers.Conv2D(2, 1)(z)]))
    done, rows, refused = equalize_graph(graph)
    reasons = {row.tensor: row.reason for row in refused}
    assert rows == []
    assert "'six'" in reasons["a"]
    assert "'tanh' does not scale" in reasons["b"]
    assert "'add'" in reasons["c"]
    assert "output of the model" in reasons["d"]
    assert done == graph
