"""Layers of Keras 3 that draw numbers in inference, which they do not use."""

import keras
import numpy as np
import pytest

from tfslim import errors, tflite
from tfslim.convert import convert_model

SERIES, IMAGE = (5, 3), (6, 6, 3)
la = keras.layers


class Counting(la.Layer):
    """Multiplies by how often it was called."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign(self.calls + 1.0)
        return x * self.calls


class Noisy(la.Layer):
    """Adds noise in inference, too."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)


def chain(shape, *layers):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


MODELS = {
    "gru": lambda: chain(SERIES, la.GRU(4, dropout=0.3, recurrent_dropout=0.2)),
    "both_ways": lambda: chain(SERIES, la.Bidirectional(la.GRU(3, dropout=0.3))),
    "nested": lambda: chain(SERIES, chain(SERIES, la.GRU(3, dropout=0.3))),
    "images": lambda: chain(IMAGE, la.RandomGrayscale(), la.RandomHue(0.2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_only_training_draws_does_not_hinder(name):
    model = MODELS[name]()
    random = np.random.default_rng(0)
    x = random.uniform(size=(1, *model.input_shape[1:])).astype(np.float32)
    seeds = [v for v in model.variables if "seed" in v.path]
    before = [np.array(seed) for seed in seeds]
    [found] = tflite.run(convert_model(model).tflite, x).values()
    after = [np.array(seed) for seed in seeds]
    np.testing.assert_allclose(found, model(x, training=False), atol=1e-5)
    assert seeds
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    ("layer", "said"), [(Noisy, "draws random numbers"), (Counting, "is changed in")]
)
def test_what_a_file_cannot_do_is_one_line(layer, said):
    model = chain((4,), layer(), la.Dense(2))
    with pytest.raises(errors.ConversionError, match=said) as caught:
        convert_model(model)
    assert "\n" not in str(caught.value)


def test_inputs_keep_their_names_in_another_precision():
    dtype = {"dtype": "mixed_float16"}
    x = keras.Input((4,))
    model = keras.Model(x, la.Dense(2, dtype="float32")(la.Dense(3, **dtype)(x)))
    [given] = tflite.read(convert_model(model).tflite).inputs
    assert given.name == model.inputs[0].name
