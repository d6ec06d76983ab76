import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import data, errors
from tfslim.data.tf_data import to_tf_data
from tfslim.preprocessing import preset
from tfslim.training import FitOptions, fit, optimizers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] > 0).astype(np.int64)
SPLIT = {"train": (X[:64], LABELS[:64]), "validation": (X[64:], LABELS[64:])}


def _classifier(seed=0):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential(
        [
            tf_keras.layers.Input((4,)),
            tf_keras.layers.Dense(8, activation="relu"),
            tf_keras.layers.BatchNormalization(),
            tf_keras.layers.Dense(2, activation="softmax"),
        ]
    )


class _Record(tf_keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


def test_it_learns_and_the_model_has_the_best_epochs_weights():
    model, record = _classifier(), _Record()
    result = fit(
        model,
        **SPLIT,
        task="classification",
        epochs=8,
        learning_rate=0.05,
        callbacks=[record],
    )
    accuracies = result.history["val_accuracy"]
    assert len(accuracies) == 8 and result.monitor == "val_accuracy"
    assert max(accuracies) > 0.85
    # The rule, worked out by sorting: best accuracy, then lowest loss, then first.
    expected = min(
        range(8), key=lambda k: (-accuracies[k], result.history["val_loss"][k], k)
    )
    assert result.best_epoch == expected
    for ours, theirs in zip(model.get_weights(), record.weights[expected], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    measured = model.evaluate(*SPLIT["validation"], verbose=0)[1]
    assert measured == pytest.approx(max(accuracies))


def test_a_good_epoch_before_a_bad_one_is_kept():
    class Ruin(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.set_weights([w * 0 for w in self.model.get_weights()])

    model = _classifier()
    result = fit(
        model,
        **SPLIT,
        task="classification",
        epochs=3,
        learning_rate=0.05,
        schedule="constant",
        callbacks=[Ruin()],
    )
    assert result.best_epoch < 2
    assert np.abs(model.get_weights()[0]).max() > 0.1


def test_without_validation_the_training_loss_decides():
    result = fit(_classifier(), SPLIT["train"], task="classification", epochs=2)
    assert result.monitor == "loss"
    assert result.best_epoch == int(np.argmin(result.history["loss"]))


def test_patience_stops():
    class Freeze(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = 0.0

    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(1)])
    y = X[:, :1]
    result = fit(
        model,
        (X, y),
        validation=(X, y),
        task="regression",
        epochs=9,
        patience=2,
        schedule="constant",
        callbacks=[Freeze()],
    )
    # Of equal epochs the last one is the best, and none is progress.
    assert len(result.history["loss"]) == 3 and result.best_epoch == 2


def test_regression_and_reconstruction_take_their_targets():
    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(1)])
    result = fit(
        model,
        (X, X.sum(1, keepdims=True)),
        task="regression",
        epochs=30,
        batch_size=8,
        learning_rate=0.1,
    )
    # The least squares solution of y = sum(x) is known.
    np.testing.assert_allclose(model.get_weights()[0], np.ones((4, 1)), atol=0.01)
    assert result.history["loss"][-1] < 1e-3
    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(4)])
    fit(
        model,
        (X, LABELS),
        task="reconstruction",
        epochs=30,
        batch_size=8,
        learning_rate=0.1,
    )
    np.testing.assert_allclose(model.get_weights()[0], np.eye(4), atol=0.02)


def test_mixed_bfloat16_trains_a_copy_and_leaves_float32():
    inner = tf_keras.Sequential(
        [tf_keras.layers.Input((4,)), tf_keras.layers.Dense(8, activation="relu")]
    )
    inputs = tf_keras.Input((4,))
    outputs = tf_keras.layers.Dense(2, activation="softmax")(inner(inputs))
    model = tf_keras.Model(inputs, outputs)
    seen = []

    class Look(tf_keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.extend(
                layer.compute_dtype
                for layer in self.model.submodules
                if isinstance(layer, tf_keras.layers.Dense)
            )

    before = model.get_weights()
    fit(
        model,
        **SPLIT,
        task="classification",
        epochs=8,
        learning_rate=0.05,
        mixed_precision=True,
        callbacks=[Look()],
    )
    assert sorted(seen) == ["bfloat16", "float32"]
    assert all(layer.dtype_policy.name == "float32" for layer in model.layers)
    assert all(weight.dtype == np.float32 for weight in model.get_weights())
    assert not np.array_equal(before[0], model.get_weights()[0])
    chosen = model.predict(X[64:], verbose=0).argmax(1)
    assert (chosen == LABELS[64:]).mean() > 0.8


def test_batch_norm_follows_a_short_training_and_gets_its_momentum_back():
    def model_of(momentum):
        tf_keras.utils.set_random_seed(0)
        return tf_keras.Sequential(
            [
                tf_keras.layers.Input((4,)),
                tf_keras.layers.BatchNormalization(momentum=momentum),
                tf_keras.layers.Dense(1),
            ]
        )

    x = X * 3 + 50
    model = model_of(0.999)
    fit(model, (x, X[:, :1]), task="regression", epochs=10, batch_size=16)
    mean = model.layers[0].moving_mean.numpy()
    np.testing.assert_allclose(mean, x.mean(0), rtol=0.02)
    assert model.layers[0].momentum == 0.999
    # 60 steps with the layer's own momentum would have got to 6% of the way.
    assert model.train_function is None


@pytest.mark.parametrize("package", [tf_keras, keras])
def test_data_errors_reach_the_user(tmp_path, package):
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no image")
    examples = data.FileExamples([broken] * 4, np.zeros(4, np.int64))
    dataset = to_tf_data(examples, preset("unit", (2, 2, 1)), task="classification")
    model = package.Sequential(
        [
            package.layers.Input((2, 2, 1)),
            package.layers.Flatten(),
            package.layers.Dense(2, activation="softmax"),
        ]
    )
    with pytest.raises(errors.DataError, match=r"a\.png cannot be read") as caught:
        fit(model, dataset, task="classification", epochs=1)
    assert "\n" not in str(caught.value)


def test_endless_data_needs_a_length():
    endless = tf.data.Dataset.from_tensor_slices(SPLIT["train"]).repeat().batch(8)
    with pytest.raises(errors.ConfigError, match="Pass steps_per_epoch"):
        fit(_classifier(), endless, task="classification", epochs=2)
    result = fit(
        _classifier(), endless, task="classification", epochs=2, steps_per_epoch=3
    )
    assert len(result.history["loss"]) == 2


def test_tensorboard_logs_or_one_line(tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(errors.MissingExtraError, match="log_dir needs"):
            fit(
                _classifier(),
                SPLIT["train"],
                task="classification",
                epochs=1,
                log_dir=tmp_path,
            )
    else:
        fit(
            _classifier(),
            SPLIT["train"],
            task="classification",
            epochs=1,
            log_dir=tmp_path,
        )
        assert list(tmp_path.rglob("*tfevents*"))


def test_quiet_without_a_terminal_and_a_bar_if_asked(capfd):
    fit(_classifier(), SPLIT["train"], task="classification", epochs=1)
    quiet = capfd.readouterr()
    assert quiet.out == "" and "epoch" not in quiet.err
    fit(_classifier(), SPLIT["train"], task="classification", epochs=1, verbose=True)
    assert "epoch 1/1" in capfd.readouterr().err


def test_fitting_twice_starts_from_the_weights_of_before():
    model = _classifier()
    fit(model, **SPLIT, task="classification", epochs=6, learning_rate=0.05)
    loss = fit(
        model, **SPLIT, task="classification", epochs=1, learning_rate=1e-6
    ).history["loss"][0]
    fresh = fit(
        _classifier(), **SPLIT, task="classification", epochs=1, learning_rate=1e-6
    ).history["loss"][0]
    assert loss < 0.7 * fresh


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": -1.0}, "above 0"),
        ({"optimizer": "adm"}, "Did you mean 'adam'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"strategy": "miror"}, "Did you mean 'mirrored'"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"batch_size": None}, "batch_size must be set, got None"),
        ({"seed": "a"}, "seed must be a whole number, got 'a'"),
        ({"learning_rate": "fast"}, "must be a number, got 'fast'"),
        ({"optimizer": 3}, "optimizer is 3; expected one of adam"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(errors.ConfigError, match=message) as caught:
        fit(_classifier(), SPLIT["train"], task="classification", **options)
    assert "\n" not in str(caught.value)


def test_wrong_models_and_data_are_named():
    with pytest.raises(errors.ConfigError, match=r"got a builtins\.str"):
        fit("model.keras", SPLIT["train"], task="classification")
    with pytest.raises(errors.ConfigError, match="train is a list"):
        fit(_classifier(), [1], task="classification")
    with pytest.raises(errors.ConfigError, match="no weights yet"):
        fit(
            tf_keras.Sequential([tf_keras.layers.Dense(2)]),
            SPLIT["train"],
            task="classification",
        )


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((X, LABELS, LABELS, LABELS), r"tuple of 4; expected arrays \(x, y\)"),
        ((X, LABELS, LABELS[:90]), "arrays of 90 and 96 examples"),
        ((X, LABELS[:90]), "arrays of 90 and 96 examples"),
        ((X[:90], LABELS), "arrays of 90 and 96 examples"),
        ((X[:0], LABELS[:0]), "arrays of 0 examples"),
        ((X[:, :3], LABELS), r"shape \(32, 3\), the model .* takes \(None, 4\)"),
        (((X, X), LABELS), "gives 2 inputs, the model .* takes 1"),
        (tf.data.Dataset.from_tensor_slices((X, LABELS)), r"shape \(4,\)"),
        (tf.data.Dataset.from_tensor_slices(X).batch(8), "no pairs"),
        (lambda epoch: [(X, LABELS)], "function that returns a list"),
        ((X, LABELS + 1), "A target is class 2, but the model has 2 outputs"),
    ],
)
def test_data_that_does_not_fit_is_told_in_a_line(train, message):
    with pytest.raises(errors.TfslimError, match=message) as caught:
        fit(_classifier(), train, task="classification", epochs=1)
    assert "\n" not in str(caught.value)
    if isinstance(train, tuple) and "class 2" not in message:
        with pytest.raises(errors.ConfigError, match="validation"):
            fit(
                _classifier(),
                SPLIT["train"],
                validation=train,
                task="classification",
                epochs=1,
            )


def test_outputs_that_do_not_fit_the_task_are_told_in_a_line():
    inputs = tf_keras.Input((4,))
    single = tf_keras.layers.Dense(1, activation="sigmoid")(inputs)
    model = tf_keras.Model(inputs, single)
    x, y = SPLIT["train"]
    with pytest.raises(errors.DataError, match=r"go from 0 to 3, but") as caught:
        fit(model, (x, y * 3), task="classification", epochs=1)
    assert "\n" not in str(caught.value)
    model = tf_keras.Model(inputs, [single, tf_keras.layers.Dense(2)(inputs)])
    with pytest.raises(errors.ConfigError, match="accuracy of one output"):
        fit(model, SPLIT["train"], task="classification", epochs=1)


@pytest.mark.parametrize("package", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_a_classifier_may_end_in_logits(package):
    """Equal to Keras' own training with from_logits=True."""

    def build(activation):
        package.utils.set_random_seed(0)
        inputs = package.Input((4,))
        x = package.layers.Dense(8, activation="relu")(inputs)
        return package.Model(inputs, package.layers.Dense(3, activation=activation)(x))

    options = {"task": "classification", "epochs": 3, "batch_size": 32}
    labels = LABELS + (X[:, 2] > 1)
    models = {}
    for activation in (None, "softmax"):
        models[activation] = build(activation)
        found = fit(models[activation], (X, labels), validation=(X, labels), **options)
        logits = np.asarray(models[None](X))
        truth = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        best = found.history["val_loss"][found.best_epoch]
        assert best == pytest.approx(float(np.mean(truth)), rel=1e-4)
    for one, other in zip(*(m.get_weights() for m in models.values()), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_targets_may_be_one_hot_and_inputs_several():
    def build():
        tf_keras.utils.set_random_seed(0)
        inputs = [tf_keras.Input((2,), name=name) for name in "ab"]
        x = tf_keras.layers.Concatenate()(inputs)
        return tf_keras.Model(inputs, tf_keras.layers.Dense(2, "softmax")(x))

    options = {"task": "classification", "epochs": 2}
    parts = X[:, :2], X[:, 2:]
    trained = []
    for x in (parts, dict(zip("ab", parts, strict=True))):
        for y in (LABELS, LABELS[:, None], np.eye(2)[LABELS]):
            model = build()
            fit(model, (x, y), validation=(x, y), **options)
            trained.append(model.get_weights()[0])
    for weights in trained[1:]:
        np.testing.assert_allclose(weights, trained[0], atol=1e-6)
    assert np.abs(trained[0] - build().get_weights()[0]).max() > 1e-3


def test_schedules_end_at_zero():
    options = FitOptions(learning_rate=0.5, schedule="one_cycle", optimizer="sgd")
    rate = optimizers.build(options, 100)._learning_rate
    values = [float(rate(step)) for step in range(101)]
    assert values[0] == pytest.approx(0.02) and int(np.argmax(values)) == 20
    assert max(values) == pytest.approx(0.5) and values[-1] == pytest.approx(
        0, abs=1e-6
    )


def test_epochs_before_the_first_candidate_are_not_chosen():
    # Learning at a rate of 0 changes nothing: every epoch is as good as the first.
    model = _classifier()
    result = fit(
        model,
        **SPLIT,
        task="classification",
        epochs=4,
        learning_rate=1e-9,
        best_from_epoch=2,
        callbacks=[(record := _Record())],
    )
    assert result.best_epoch >= 2
    for a, b in zip(
        model.get_weights(), record.weights[result.best_epoch], strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_first_candidate_must_be_an_epoch():
    with pytest.raises(errors.ConfigError, match=r"in \[0, 3\), got 3"):
        FitOptions(epochs=3, best_from_epoch=3)
