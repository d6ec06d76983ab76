"""Channels pass functions without a rule where calling them shows that they may."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels

ops = keras.ops
PASSING = {
    "newaxis": lambda x: x[..., None],
    "strided": lambda x: x[:, ::2],
    "where": lambda x: ops.where(x > 0, x, 0.1),
    "stacked": lambda x: ops.stack([x, x * 2.0], 1),
    "stacked last": lambda x: ops.stack([x, x * 2.0], -1),
    "tiled": lambda x: ops.tile(x, (1, 1, 1, 2)),
    "repeated": lambda x: ops.repeat(x, 2, axis=-1),
    "taken": lambda x: ops.take(x, [0, 2], axis=1),
    "normed": lambda x: ops.norm(x, axis=1),
    "pooled": lambda x: ops.average_pool(x, 2),
    "transposed": lambda x: ops.einsum("bhwc->bchw", x),
    "compared": lambda x: ops.cast(x > 0.1, "float32"),
    "cumulated": lambda x: ops.cumsum(x, axis=2),
}
FROZEN = {
    "taken channels": lambda x: ops.take(x, [0, 3], axis=-1),
    "flipped": lambda x: ops.flip(x, axis=-1) + x,
    "log_softmax": lambda x: ops.log_softmax(x),
    "normed channels": lambda x: ops.norm(x, axis=-1),
    "cumulated channels": lambda x: ops.cumsum(x, axis=-1),
    "multiplied": lambda x: ops.einsum("bhwc,cd->bhwd", x, np.eye(8, dtype="float32")),
    "any channel": lambda x: ops.cast(ops.any(x, axis=-1, keepdims=True), "float32"),
}


def _network(function, k=keras):
    k.utils.set_random_seed(0)
    image = k.Input((4, 4, 3))
    x = k.layers.Conv2D(8, 3, padding="same", activation="tanh", name="conv")(image)
    x = k.layers.Flatten()(function(x))
    return k.Model(image, k.layers.Dense(3)(x))


@pytest.mark.parametrize("name", PASSING)
def test_channels_pass(name):
    model = _network(PASSING[name])
    smaller, report = tfslim.prune_channels(
        model, budget=tfslim.Budget(pruning_ratio=0.5, divisor=1)
    )
    assert report.error < 1e-5
    assert smaller.get_layer("conv").filters == 4


@pytest.mark.parametrize("name", FROZEN)
def test_what_looks_at_other_channels_stays_whole(name):
    found = channels.analyze(graph_keras.read(_network(FROZEN[name])))
    assert not found.groups
    assert "conv" in found.skipped


@pytest.mark.parametrize(
    "function", [tf.math.erf, lambda x: x[..., None], lambda x: tf.stack([x, x], 1)]
)
def test_functions_of_tensorflow(function):
    smaller, report = tfslim.prune_channels(
        _network(function, tf_keras), budget=tfslim.Budget(pruning_ratio=0.5, divisor=1)
    )
    assert report.error < 1e-5
    assert smaller.get_layer("conv").filters == 4
