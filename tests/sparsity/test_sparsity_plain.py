import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.sparsity import sparsity_models as models
from tfslim import ops
from tfslim.graph import keras as graph_keras
from tfslim.sparsity import fold, hard, plain, quantizers


def _written(graph):
    return graph_keras.write(graph, "tf_keras")


def _random(model):
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model


def _functions():
    """Every function of tensors that the graph knows, one after another."""
    x = inputs = tf_keras.Input((4, 4, 6), batch_size=2)
    positive = tf.abs(x) + 0.5
    parts = [
        *(function(x) for function in (tf.exp, tf.nn.elu, tf.nn.silu, tf.nn.gelu)),
        *(function(x) for function in (tf.nn.relu, tf.nn.relu6, tf.tanh, tf.sigmoid)),
        *(function(positive) for function in (tf.sqrt, tf.math.log, tf.square)),
        *(function(x, positive) for function in (tf.maximum, tf.minimum, tf.divide)),
        x + positive,
        x - positive,
        x * positive,
        3.0 - x,
        x / 4.0,
        x * np.arange(6, dtype=np.float32),
        positive**2.0,
        tf.clip_by_value(x, -0.5, 0.5),
        tf.nn.softmax(x, axis=-1),
        tf.transpose(x, (0, 2, 1, 3)),
        tf.concat(tf.split(x, 2, axis=-1)[::-1], axis=-1),
        tf.concat([x[:, 1:, :, :], x[:, :1, :, :]], axis=1),
        tf.reshape(tf.reshape(x, (2, 16, 6)), (2, 4, 4, 6)),
        tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])[:, 1:5, 1:5],
        tf.reduce_mean(x, axis=(1, 2), keepdims=True) + x,
        tf.squeeze(tf.expand_dims(x, 1), 1),
        tf.matmul(x, tf.transpose(x, (0, 1, 3, 2)))[..., :1] + x,
    ]
    return tf_keras.Model(inputs, parts)


def test_layers_compute_what_the_functions_did():
    model = _functions()
    graph = plain.plain(graph_keras.read(model))
    assert not {layer.op for layer in graph.layers.values()} & ops.keras("function")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32)
    for truth, found in zip(model(x), _written(graph)(x), strict=True):
        np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
@pytest.mark.parametrize(
    "activation",
    "relu relu6 elu selu silu gelu hard_sigmoid tanh softmax exponential".split(),
)
def test_activations_inside_layers(k, activation):
    inputs = k.Input((3, 3, 4))
    model = k.Model(inputs, k.layers.Conv2D(5, 2, activation=activation)(inputs))
    graph = plain.plain(graph_keras.read(model))
    [conv] = [layer for layer in graph.layers.values() if layer.op == "Conv2D"]
    assert conv.config["activation"] in plain.INSIDE
    x, _ = models.data(model)
    np.testing.assert_allclose(_written(graph)(x), model(x), rtol=1e-5, atol=1e-6)


def test_function_layer_survives_its_config():
    layer = plain.GraphFunction("add", {}, [None, [1.0, 2.0]])
    copy = plain.GraphFunction.from_config(layer.get_config())
    np.testing.assert_array_equal(copy(np.ones((1, 2), np.float32)), [[2.0, 3.0]])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_folded_norms_compute_the_same(scale, bias):
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((4, 4, 3))
    x = layers.Conv2DTranspose(5, 3, strides=2, use_bias=bias)(x)
    x = layers.BatchNormalization(scale=scale, center=not scale)(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(6, use_bias=bias)(x)
    x = layers.BatchNormalization()(x)
    model = _random(tf_keras.Model(inputs, x))
    graph = fold.fold(graph_keras.read(model))
    assert "BatchNormalization" not in {layer.op for layer in graph.layers.values()}
    x, _ = models.data(model)
    np.testing.assert_allclose(_written(graph)(x), model(x), rtol=1e-4, atol=1e-4)


def test_norms_that_cannot_be_folded_stay():
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((6,))
    dense = layers.Dense(6)
    twice = layers.BatchNormalization()(dense(x))
    read_twice = layers.Dense(6)(x)
    normed = layers.BatchNormalization()(read_twice)
    after_relu = layers.BatchNormalization()(layers.Dense(6, activation="relu")(x))
    outputs = [dense(twice), layers.Add()([normed, read_twice]), after_relu]
    model = _random(tf_keras.Model(inputs, outputs))
    graph = fold.fold(graph_keras.read(model))
    norms = [n for n in graph.layers.values() if n.op == "BatchNormalization"]
    assert len(norms) == 3
    x, _ = models.data(tf_keras.Model(inputs, outputs[0]))
    for truth, found in zip(model(x), _written(graph)(x), strict=True):
        np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-5)


def _gate(x, *, shift=3.0, top=6.0, scale=1 / 6):
    return tf_keras.layers.ReLU(top)(x + shift) * scale


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda x: x * _gate(x), ["hard_sigmoid", "hard_silu"]),
        (lambda x: tf.nn.relu6(3.0 + x) / 6.0, ["hard_sigmoid"]),
        (lambda x: tf_keras.layers.Multiply()([_gate(x), x + 1.0]), ["hard_sigmoid"]),
        (lambda x: x * _gate(x, shift=2.0), []),
        (lambda x: x * _gate(x, top=5.0), []),
        (lambda x: x * _gate(x, scale=0.2), []),
    ],
)
def test_spelled_out_activations_are_found(make, names):
    inputs = tf_keras.Input((5,))
    model = tf_keras.Model(inputs, make(inputs))
    graph = graph_keras.read(model)
    assert [op for op, _ in hard.find(graph).values()] == names
    x, _ = models.data(model)
    x = x * 3.0
    np.testing.assert_allclose(_written(plain.plain(graph))(x), model(x), atol=1e-5)


def test_range_is_the_mean_over_the_batches():
    quantizer = quantizers.RunningRange()
    layer = tf_keras.layers.Layer()
    state = quantizer.build(None, "output", layer)
    random = np.random.default_rng(0)
    batches = random.uniform(-3, 9, (5, 20)).astype(np.float32)
    for batch in batches:
        quantizer(tf.constant(batch), True, state)
    assert state["min_var"].numpy() == pytest.approx(batches.min(axis=1).mean())
    assert state["max_var"].numpy() == pytest.approx(batches.max(axis=1).mean())
    before = state["max_var"].numpy()
    quantizer(tf.constant(batches[0] * 100), False, state)
    assert state["max_var"].numpy() == before


def test_range_holds_zero():
    quantizer = quantizers.RunningRange()
    state = quantizer.build(None, "output", tf_keras.layers.Layer())
    quantizer(tf.constant([2.0, 5.0]), True, state)
    assert state["min_var"].numpy() == 0.0
    assert state["max_var"].numpy() == 5.0
