"""Keras 3 models are trained in place, and as Keras 3 would train them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import errors, tasks
from tfslim.training import fit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 6, 6, 2)).astype(np.float32)
LABELS = (X.mean((1, 2, 3)) > 0).astype(np.int64)
layers = keras.layers


def _model(*, nested=False, regularizer=None, activity=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(
        4, 3, kernel_regularizer=regularizer, activity_regularizer=activity
    )(inputs)
    # A momentum below 0.8 is one that a short training leaves alone.
    x = layers.BatchNormalization(momentum=0.7)(x)
    x = layers.DepthwiseConv2D(3, activation="relu")(x)
    if nested:
        inner = keras.Sequential(
            [layers.Input((2, 2, 4)), layers.Conv2D(3, 1), layers.Flatten()]
        )
        x = layers.Add()([inner(x), inner(x)])
    else:
        x = layers.GlobalAveragePooling2D()(x)
    x = layers.BatchNormalization(momentum=0.5)(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def _assert_close(model, other, atol):
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(
            ours.numpy(), theirs.numpy(), rtol=0, atol=atol, err_msg=theirs.path
        )


def _after_own_step(model):
    """Trains one step by Keras 3's own fit."""
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(X, LABELS, batch_size=16, epochs=1, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nested": True},
        {"regularizer": keras.regularizers.L2(0.3)},
        {"activity": keras.regularizers.L1(0.1)},
    ],
    ids=["plain", "nested and shared", "regularizer", "activity"],
)
def test_a_step_equals_that_of_keras_3s_own_fit(options):
    own, ours = _after_own_step(_model(**options)), _model(**options)
    start = _model(**options)
    fit(
        ours,
        tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(16),
        task="classification",
        epochs=1,
        optimizer=keras.optimizers.SGD(0.1),
    )
    _assert_close(ours, own, atol=1e-6)
    with pytest.raises(AssertionError):  # It did not just stand still.
        _assert_close(ours, start, atol=1e-3)


def test_frozen_layers_stay_and_the_model_learns():
    model = _model()
    model.layers[1].trainable = False
    before = model.layers[1].kernel.numpy()
    result = fit(
        model,
        (X, LABELS),
        validation=(X, LABELS),
        task="classification",
        epochs=25,
        batch_size=8,
        learning_rate=0.03,
    )
    assert result.model is model
    np.testing.assert_array_equal(model.layers[1].kernel.numpy(), before)
    assert max(result.history["val_accuracy"]) > 0.9
    # The model itself, run by Keras 3, does what the best epoch of the copy did.
    accuracy = np.mean(model.predict(X, verbose=0).argmax(1) == LABELS)
    assert accuracy == pytest.approx(max(result.history["val_accuracy"]))


def test_losses_metrics_and_optimizers_of_keras_3_are_carried_over():
    schedule = keras.optimizers.schedules.CosineDecay(0.02, 20)
    task = tasks.TASKS.get("classification")
    found = []
    for loss, metric, optimizer in (
        (
            keras.losses.SparseCategoricalCrossentropy(),
            keras.metrics.SparseCategoricalAccuracy(name="hits"),
            keras.optimizers.AdamW(schedule, weight_decay=0.1),
        ),
        (
            tf_keras.losses.SparseCategoricalCrossentropy(),
            tf_keras.metrics.SparseCategoricalAccuracy(name="hits"),
            tf_keras.optimizers.AdamW(
                tf_keras.optimizers.schedules.CosineDecay(0.02, 20), weight_decay=0.1
            ),
        ),
    ):
        own = dataclasses.replace(task, loss=loss, keras_metric=metric)
        result = fit(
            _model(),
            (X, LABELS),
            validation=(X, LABELS),
            task=own,
            epochs=3,
            batch_size=8,
            optimizer=optimizer,
        )
        assert result.monitor == "val_hits"
        found.append(result.history)
    assert found[0] == found[1]


def test_an_optimizer_that_tf_keras_has_not_is_named():
    with pytest.raises(errors.ConfigError, match="Lamb of Keras 3"):
        fit(
            _model(),
            (X, LABELS),
            task="classification",
            optimizer=keras.optimizers.Lamb(),
        )


def test_callbacks_of_keras_3_see_the_copy_and_can_stop_it():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((self.model, logs["loss"]))

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model = _model()
    result = fit(
        model,
        (X, LABELS),
        task="classification",
        epochs=5,
        batch_size=8,
        callbacks=[Look()],
    )
    assert len(result.history["loss"]) == 2 and len(seen) == 4
    assert all(isinstance(copy, tf_keras.Model) for copy, _ in seen)


class _SevenTimes(keras.regularizers.L2):
    def __call__(self, x):
        return 7.0 * super().__call__(x)


@pytest.mark.parametrize("name", ["L2", "SevenTimes"])
def test_a_loss_that_the_copy_would_lack_is_refused(name):
    """One is taken for Keras' own by its name, tf_keras knows nothing of the other."""
    regularizer = type(name, (_SevenTimes,), {})(0.1)
    model = _model(regularizer=regularizer)
    with pytest.raises(errors.GraphError, match="does not do the same") as caught:
        fit(model, (X, LABELS), task="classification", epochs=1)
    assert "\n" not in str(caught.value)


def test_what_tf_keras_cannot_build_is_refused():
    class Own(keras.layers.Layer):
        def call(self, x):
            return x * 2

    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(Own()(inputs)))
    with pytest.raises(errors.GraphError, match="as a tf_keras copy") as caught:
        fit(model, (np.ones((4, 4)), np.ones((4, 2))), task="regression", epochs=1)
    assert "\n" not in str(caught.value)


def test_bfloat16_is_trained_and_the_model_stays_float32():
    model = _model()
    before = model.get_weights()
    fit(
        model,
        (X, LABELS),
        task="classification",
        epochs=2,
        batch_size=8,
        mixed_precision=True,
    )
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert not np.array_equal(before[0], model.get_weights()[0])
