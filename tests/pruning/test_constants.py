"""The second law: folding constants changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import numpy_executor
from tests.graph import models
from tests.pruning import random_models
from tests.pruning.test_laws import _SETTINGS, draw_keep
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels, constants, surgery

L = tf_keras.layers


def _silenced(graph, keep):
    """Gives every batch norm gamma 0 where its channels are to be removed."""
    found = channels.analyze(graph)
    mask = found.mask(keep)
    changed = {}
    for node, wiring in zip(graph.nodes, found.wirings, strict=True):
        layer = graph.layer_of(node)
        if layer.op == "BatchNormalization" and "gamma" in layer.weights:
            gamma = layer.weights["gamma"] * mask[wiring.weights["gamma"][0]]
            weights = {**layer.weights, "gamma": gamma}
            changed[layer.name] = type(layer)(
                layer.name, layer.op, layer.config, weights, layer.state
            )
    return graph.with_layers(changed)


def _half(found):
    return {g.name: np.arange(len(g)) % 2 == 0 for g in found.groups}


def _model(middle, size=6):
    x = y = tf_keras.Input((size, size, 3))
    y = L.Conv2D(8, 3, use_bias=False)(y)
    y = L.BatchNormalization()(y)
    y = L.ReLU(max_value=6.0)(y)
    for layer in middle:
        y = layer(y)
    model = models.randomize(tf_keras.Model(x, L.Dense(3, name="last")(y)))
    beta = model.layers[2].beta
    beta.assign(np.abs(beta) + 0.2)  # A constant that the ReLU lets through.
    return model


@pytest.mark.parametrize(
    "middle",
    [
        [L.Conv2D(4, 1, use_bias=False)],
        [L.Conv2D(4, 3)],
        [L.AveragePooling2D(2, padding="same"), L.Conv2D(4, 1)],
        [L.DepthwiseConv2D(3, activation="tanh"), L.Conv2D(4, 1)],
        [L.Flatten()],
        [L.GlobalAveragePooling2D()],
        [L.Activation("tanh"), L.UpSampling2D(2), L.Permute((2, 1, 3))],
    ],
    ids=["1x1", "valid", "pool", "depthwise", "flatten", "global", "moved"],
)
def test_folding_is_exact(middle):
    graph = graph_keras.read(_model(middle))
    keep = _half(channels.analyze(graph))
    keep = {name: kept for name, kept in keep.items() if len(kept) == 8}
    graph = _silenced(graph, keep)
    folded, folding = constants.fold_constants(graph, keep)
    cut, _ = surgery.cut_channels(folded, keep)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    wanted = numpy_executor.execute(graph, [x])
    got = numpy_executor.execute(cut, [x])
    assert surgery.relative_error(wanted, got) < 1e-6
    assert sum(folding.folded.values()) >= 3
    assert not folding.left and not folding.padded
    plain, _ = surgery.cut_channels(graph, keep)
    assert surgery.relative_error(wanted, numpy_executor.execute(plain, [x])) > 1e-3


@pytest.mark.parametrize("flat", [False, True])
def test_a_channel_that_is_constant_in_one_of_two_branches(flat):
    x = tf_keras.Input((4, 4, 3))
    y = L.Conv2D(6, 1, name="conv")(x)
    z = L.BatchNormalization()(y)
    y = L.Concatenate()([y, z])
    y = L.Flatten()(y) if flat else y
    model = models.randomize(tf_keras.Model(x, L.Dense(2, name="last")(y)))
    graph = graph_keras.read(model)
    keep = {"conv": np.arange(6) < 3}
    graph = _silenced(graph, keep)
    folded, folding = constants.fold_constants(graph, keep)
    # Flat, the two places of a channel are told apart by nothing: not folded.
    assert folding.folded == ({} if flat else {"last": 3})
    inputs = [np.random.default_rng(0).normal(size=(2, 4, 4, 3))]
    wanted = numpy_executor.execute(graph, inputs)
    got = numpy_executor.execute(folded, inputs)
    assert surgery.relative_error(wanted, got) < 1e-6


def test_zero_padding_is_folded_only_when_asked():
    graph = graph_keras.read(_model([L.Conv2D(4, 3, padding="same")], size=10))
    keep = _half(channels.analyze(graph))
    keep = {name: kept for name, kept in keep.items() if len(kept) == 8}
    graph = _silenced(graph, keep)
    _, folding = constants.fold_constants(graph, keep)
    assert folding.folded == {} and list(folding.left.values()) == [4]
    folded, folding = constants.fold_constants(graph, keep, same_padding=True)
    assert folding.padded == tuple(folding.folded)
    x = np.random.default_rng(0).normal(size=(2, 10, 10, 3))
    wanted = numpy_executor.execute(graph, [x])[0]
    got = numpy_executor.execute(surgery.cut_channels(folded, keep)[0], [x])[0]
    # Exact inside, wrong on the border of the 8 x 8 positions.
    np.testing.assert_allclose(got[:, 1:-1, 1:-1], wanted[:, 1:-1, 1:-1], atol=1e-5)
    assert np.abs(got - wanted).max() > 1e-3


@settings(_SETTINGS, max_examples=25)
@given(st.data())
def test_folded_graph_equals_the_original(data):
    model = models.randomize(random_models.draw_model(data, tf_keras))
    graph = graph_keras.read(model)
    keep = draw_keep(data, channels.analyze(graph))
    graph = _silenced(graph, keep)
    folded, _ = constants.fold_constants(graph, keep)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    wanted = numpy_executor.execute(graph, [x])
    assert surgery.relative_error(wanted, numpy_executor.execute(folded, [x])) < 1e-6


def test_leaky_relu_lets_negative_constants_through():
    x = y = tf_keras.Input((6, 6, 3))
    y = L.Conv2D(8, 3, use_bias=False)(y)
    y = L.BatchNormalization()(y)
    y = L.LeakyReLU(0.1)(y)
    model = models.randomize(tf_keras.Model(x, L.Conv2D(4, 1, use_bias=False)(y)))
    norm = model.layers[2]
    norm.gamma.assign(np.where(np.arange(8) % 2 == 0, 1.0, 0.0))
    norm.beta.assign(np.linspace(-5.0, 2.5, 8))
    graph = graph_keras.read(model)
    found = channels.analyze(graph)
    keep = {found.groups[0].name: np.arange(8) % 2 == 0}
    whole, folding = constants.fold_constants(graph, keep, channels=found)
    assert list(folding.folded.values()) == [4]
    smaller, _ = surgery.cut_channels(whole, keep)
    image = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    cut = graph_keras.write(smaller)(image)
    np.testing.assert_allclose(cut, model(image), atol=1e-5)
