"""A change of the input's channels taken into the graph, against doing it outside."""

import keras
import numpy as np
import pytest
import tf_keras

from tfslim import errors
from tfslim.graph import affine_input
from tfslim.graph import keras as graph_keras

KERNEL = np.float32([[0, 0, 0.5], [0, 0.25, 0], [2, 0, 0]])  # As BGR: a permutation.
BIAS = np.float32([1.5, -2.0, 0.75])
PACKAGES = {"tf_keras": tf_keras, "keras": keras}


def _model(package, first, size=9):
    inputs = package.Input((size, size, 3), name="image")
    x = first(package.layers, inputs)
    x = package.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    outputs = package.layers.GlobalAveragePooling2D()(x)
    model = package.Model(inputs, outputs)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


def _conv(layers, x, **options):
    return layers.Conv2D(5, **({"kernel_size": 3} | options))(x)


FIRST = {
    "valid": lambda la, x: _conv(la, x),
    "strided": lambda la, x: _conv(la, x, strides=2, use_bias=False),
    "pointwise": lambda la, x: _conv(la, x, kernel_size=1, padding="same"),
    "same": lambda la, x: _conv(la, x, padding="same"),
    "dilated": lambda la, x: _conv(la, x, dilation_rate=2, padding="same"),
    "grouped": lambda la, x: la.Conv2D(6, 3, groups=3)(x),
    "depthwise": lambda la, x: la.DepthwiseConv2D(3)(x),
    "padded": lambda la, x: _conv(la, la.ZeroPadding2D(2)(x)),
    "read twice": lambda la, x: la.Concatenate()([_conv(la, x, padding="same"), x]),
}
FOLDED = {"valid", "strided", "pointwise"}


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("source", PACKAGES)
def test_outputs_are_those_of_the_change_outside(name, source):
    model = _model(PACKAGES[source], FIRST[name])
    graph, layer = affine_input.put_in_front(graph_keras.read(model), KERNEL, bias=BIAS)
    changed = graph_keras.write(graph, source)
    x = np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)
    expected = model.predict(x @ KERNEL + BIAS, verbose=0)
    np.testing.assert_allclose(
        changed.predict(x, verbose=0), expected, rtol=2e-5, atol=2e-4
    )
    is_folded = len(graph.nodes) == len(graph_keras.read(model).nodes)
    assert is_folded == (name in FOLDED)
    assert layer in graph.layers
    assert [tensor.name.split(":")[0] for tensor in changed.inputs] == ["image"]


def test_zeros_of_the_padding_stay_zeros_where_nothing_is_added():
    model = _model(tf_keras, FIRST["same"])
    graph, _ = affine_input.put_in_front(
        graph_keras.read(model), KERNEL, bias=np.zeros(3, np.float32)
    )
    assert len(graph.nodes) == len(graph_keras.read(model).nodes)
    x = np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)
    expected = model.predict(x @ KERNEL, verbose=0)
    found = graph_keras.write(graph).predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-4)


def test_a_shared_convolution_stays_as_it_is():
    conv = tf_keras.layers.Conv2D(3, 3)
    model = _model(tf_keras, lambda layers, x: conv(conv(x)))
    graph, _ = affine_input.put_in_front(graph_keras.read(model), KERNEL, bias=BIAS)
    x = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
    expected = model.predict(x @ KERNEL + BIAS, verbose=0)
    found = graph_keras.write(graph).predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-3)


def test_another_input_is_refused():
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(7,))])
    with pytest.raises(errors.GraphError, match="expected one image of 3 channels"):
        affine_input.put_in_front(graph_keras.read(model), KERNEL, bias=BIAS)
