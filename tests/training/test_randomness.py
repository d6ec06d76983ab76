"""What random layers draw while a model is trained."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim.training import fit, randomness

layers = tf_keras.layers


def _model(*middle, shape=(1000,)):
    model = tf_keras.Sequential([layers.Input(shape), *middle])
    model.compile("sgd", "mse")
    return model


def _draws(model, steps, seed=0, traced=True):
    """Returns what the model makes of ones in the steps of a training."""
    call = lambda: model(tf.ones((1, *model.input_shape[1:])), training=True)  # noqa: E731
    found = []
    with randomness.drawn_by_step(model, seed):
        call = tf.function(call) if traced else call
        for step in steps:
            model._train_counter.assign(step)
            found.append(call().numpy().ravel())
    return found


@pytest.mark.parametrize("traced", [True, False])
def test_draws_depend_on_seed_step_and_layer_only(traced):
    def build():
        return _model(layers.Dropout(0.5), shape=(1000,))

    first = _draws(build(), [0, 1, 2], traced=traced)
    again = _draws(build(), [2, 0], traced=traced)
    np.testing.assert_array_equal(first[2], again[0])
    np.testing.assert_array_equal(first[0], again[1])
    others = [first[1], first[2], *_draws(build(), [0], seed=1, traced=traced)]
    for other in others:
        # Independent masks of 1000 agree in 500 places, with a deviation of 16.
        assert 420 < np.sum(first[0] == other) < 580


def test_layers_and_calls_draw_apart():
    shared = layers.Dropout(0.5)
    inputs = layers.Input((1000,))
    model = tf_keras.Model(
        inputs, tf.stack([shared(inputs), shared(inputs), layers.Dropout(0.5)(inputs)])
    )
    model.compile("sgd", "mse")
    parts = _draws(model, [5])[0].reshape(3, 1000)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert 420 < np.sum(parts[a] == parts[b]) < 580


def test_distributions_are_those_of_the_layers():
    dropped, normal, scaled = (
        _draws(_model(layer, shape=(40000,)), [3])[0]
        for layer in (
            layers.Dropout(0.25),
            layers.GaussianNoise(2.0),
            layers.GaussianDropout(0.2),
        )
    )
    # Within four standard errors of what the layers promise.
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.009)
    assert normal.mean() == pytest.approx(1.0, abs=0.04)
    assert normal.std() == pytest.approx(2.0, rel=0.02)
    assert scaled.std() == pytest.approx(np.sqrt(0.2 / 0.8), rel=0.02)


def test_layers_get_their_own_generators_back_and_save_as_before(tmp_path):
    model = _model(layers.Dropout(0.5, seed=3), layers.RandomFlip(), shape=(2, 2, 1))
    own = [layer._random_generator for layer in model.layers]
    config = model.get_config()
    parts = len(tf.train.TrackableView(model).descendants())
    with randomness.drawn_by_step(model, 0):
        assert model.get_config() == config
        model.save(tmp_path / "model.keras")
    assert [layer._random_generator for layer in model.layers] == own
    assert len(tf.train.TrackableView(model).descendants()) == parts
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    ones = tf.ones((1, 2, 2, 1))
    drawn = {loaded(ones, training=True).numpy().tobytes() for _ in range(20)}
    assert len(drawn) > 1


def test_a_training_uses_another_mask_every_step():
    seen = []

    class Tell(layers.Layer):
        def call(self, inputs):
            tf.py_function(lambda x: seen.append(x.numpy().tobytes()), [inputs], [])
            return inputs

    model = tf_keras.Sequential(
        [layers.Input((64,)), layers.Dropout(0.5), Tell(), layers.Dense(1)]
    )
    x = np.ones((32, 64), np.float32)
    fit(model, (x, x[:, :1]), task="regression", epochs=2, batch_size=8)
    assert len(seen) == 8 and len(set(seen)) == 8
