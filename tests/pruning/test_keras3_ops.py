"""Functions of keras.ops that have no rule are carried, and what lies behind is cut."""

import keras
import numpy as np
import pytest

import tfslim
from tfslim.graph import keras as graph_keras

ops = keras.ops
CALLS = {
    "newaxis": lambda x: x[..., None],
    "where": lambda x: ops.where(x > 0, x, 0.1),
    "stack": lambda x: ops.stack([x, x], -1),
    "einsum": lambda x: ops.einsum("bhwc,bhwd->bcd", x, x),
    "take": lambda x: ops.take(x, [0, 1], axis=-1),
    "top_k": lambda x: ops.top_k(x, 2)[0],
    "normalize": lambda x: ops.normalize(x),
    "relu6": lambda x: keras.activations.relu(x, max_value=6.0),
}


@pytest.mark.parametrize("name", CALLS)
def test_carried_and_cut_around(name):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = keras.layers.Flatten()(CALLS[name](x))
    x = keras.layers.Dense(32, activation="relu")(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    written = graph_keras.write(graph_keras.read(model), "keras")
    sample = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(written(sample), model(sample))
    smaller, report = tfslim.prune_channels(model, pruning_ratio=0.5)
    assert report.error < 1e-5
    assert smaller.count_params() < 0.8 * model.count_params()


@pytest.mark.parametrize("kind", ["Average", "Max"])
def test_channels_pass_adaptive_pooling(kind):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 7, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(image)
    x = getattr(keras.layers, f"Adaptive{kind}Pooling2D")((2, 3))(x)
    x = keras.layers.Conv2D(3, 1)(x)
    budget = tfslim.Budget(pruning_ratio=0.5, divisor=1)
    smaller, report = tfslim.prune_channels(keras.Model(image, x), budget=budget)
    assert report.error < 1e-5
    assert smaller.count_params() == (3 * 9 + 1) * 4 + (4 + 1) * 3
