"""Two classes by one number: the share of right answers, counted by hand."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import binary, errors, tasks, tflite, training

KERAS = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _model(k, activation, *more):
    layers = [k.layers.Dense(8, activation="relu"), k.layers.Dense(1, activation)]
    return k.Sequential([k.Input((4,)), *layers, *more])


def _data(number=128):
    x = np.random.default_rng(0).normal(size=(number, 4)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def test_figures_by_hand():
    outputs = np.array([[0.2], [0.7], [0.5], [0.9]])
    assert binary.accuracy(outputs, np.array([0, 1, 1, 0]), threshold=0.5) == 0.5
    assert binary.accuracy(outputs, np.array([[0], [1], [0], [1]]), threshold=0.5) == 1
    other = np.array([[0.6], [0.7], [0.4], [0.1]])
    assert binary.agreement(outputs, other, threshold=0.5) == 0.5
    assert binary.accuracy(outputs - 0.5, np.array([0, 1, 0, 1]), threshold=0.0) == 1
    for targets, message in (([0, 1, 2, 0], "target 2"), ([0, 1], "4 outputs .* 2")):
        with pytest.raises(errors.ConfigError, match=message):
            binary.accuracy(outputs, np.array(targets), threshold=0.5)


@KERAS
def test_logits_are_told_from_probabilities(k):
    layers = k.layers
    inputs = k.Input((4,))
    z = layers.Dense(1)(inputs)
    sigmoid = k.Model(inputs, layers.Activation("sigmoid")(z))
    plain = k.Sequential([k.Input((4,)), layers.Dense(1, activation="sigmoid")])
    cases = [
        (_model(k, "sigmoid"), 0.5),
        (_model(k, None), 0.0),
        (sigmoid, 0.5),
        (k.Model(inputs, layers.Reshape((1,))(layers.Dropout(0.1)(z))), 0.0),
        (_model(k, "sigmoid", layers.Activation("linear", dtype="float32")), 0.5),
        (k.Model(inputs, plain(inputs)), 0.5),
        (k.Model(inputs, layers.Dense(1, activation="hard_sigmoid")(inputs)), 0.5),
    ]
    for model, threshold in cases:
        task = tasks.resolve("classification", model)
        assert (task.name, task.threshold) == ("classification", threshold)
    two = k.Model(inputs, layers.Dense(2)(inputs))
    assert tasks.resolve("classification", two).threshold is None
    assert tasks.resolve("regression", _model(k, "sigmoid")).threshold is None


def test_a_sigmoid_of_a_function():
    inputs = keras.Input((4,))
    z = keras.layers.Dense(1)(inputs)
    assert not binary.gives_logits(keras.Model(inputs, keras.ops.sigmoid(z)))
    assert binary.gives_logits(keras.Model(inputs, keras.ops.relu(z)))


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_file_has_the_task_of_its_model(activation):
    model = _model(tf_keras, activation)
    content = tflite.read(tfslim.convert_model(model).tflite)
    threshold = tasks.resolve("classification", model).threshold
    assert tasks.resolve("classification", content).threshold == threshold


def test_own_loss_and_metric_stay():
    import dataclasses

    task = dataclasses.replace(
        tasks.TASKS.get("classification"), loss="hinge", keras_metric=None
    )
    found = tasks.resolve(task, _model(tf_keras, None))
    assert (found.loss, found.keras_metric, found.threshold) == ("hinge", None, 0.0)
    assert tasks.resolve(found, _model(tf_keras, "sigmoid")) is found


@KERAS
@pytest.mark.parametrize("activation", ["sigmoid", None])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_fit_is_keras_own_training(k, activation, shape):
    """The same loss as Keras' BinaryCrossentropy, and its accuracy at the threshold."""
    x, y = _data()
    k.utils.set_random_seed(0)
    model = _model(k, activation)
    before = k.losses.BinaryCrossentropy(from_logits=activation is None)
    wanted = float(before(y[:, None].astype(np.float32), model(x)))
    found = training.fit(
        model,
        (x, y.reshape(shape)),
        task="classification",
        epochs=1,
        batch_size=len(y),
        learning_rate=1e-9,
        schedule="constant",
    )
    assert found.history["loss"][0] == pytest.approx(wanted, rel=1e-4)
    right = np.mean((np.asarray(model(x))[:, 0] > (0.5 if activation else 0.0)) == y)
    [metric] = [name for name in found.history if "accuracy" in name]
    assert found.history[metric][0] == pytest.approx(right)


def test_methods_that_train_take_binary_classifiers():
    x, y = _data()
    model = _model(tf_keras, None)
    options = {"task": "classification", "epochs": 1}
    student, _ = tfslim.distill(model, _model(tf_keras, None), data=(x, y), **options)
    assert student.output_shape == (None, 1)
    done = tfslim.sparsify(model, (x, y), method="magnitude", target=0.5, **options)
    assert np.mean(done.model.get_weights()[0] == 0) >= 0.5
