"""A training that was killed ends as if it had not been."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import data, errors
from tfslim.data.tf_data import to_tf_data
from tfslim.preprocessing import preset
from tfslim.training import FitOptions, fit

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6, 6, 1)).astype(np.float32)
Y = (X.mean((1, 2, 3)) > 0).astype(np.int64)
VALIDATION = (X[:24], Y[:24])
OPTIONS = FitOptions(epochs=4, batch_size=16, learning_rate=0.02)
layers = tf_keras.layers


class _StopAt(tf_keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt


class _Jitter(tf_keras.layers.Layer):
    """Draws from TensorFlow's counting ops, as users' layers do."""

    def call(self, inputs, training=None):
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs


class _OwnGenerator(tf_keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = tf.random.Generator.from_seed(5)

    def call(self, inputs, training=None):
        noise = self.generator.normal(tf.shape(inputs))
        return inputs + noise if training else inputs


def _model(*middle, seed=0):
    tf_keras.utils.set_random_seed(seed)
    head = [layers.Flatten(), layers.Dense(2, activation="softmax")]
    return tf_keras.Sequential([layers.Input((6, 6, 1)), *middle, *head])


def _assert_equal_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def _check_resume(folder, build, train, callbacks=lambda: [], options=OPTIONS):
    """Trains whole, then interrupted in the third epoch and resumed."""

    def run(model, *more, backup):
        return fit(
            model,
            train() if callable(train) else train,
            validation=VALIDATION,
            task="classification",
            options=options,
            backup_dir=folder / backup,
            callbacks=[*callbacks(), *more],
        )

    whole, resumed = build(), build(seed=7)  # What it starts from must not matter.
    expected = run(whole, backup="a")
    with pytest.raises(KeyboardInterrupt):
        run(build(), _StopAt(2, 1), backup="b")
    result = run(resumed, backup="b")
    assert (expected.first_epoch, result.first_epoch) == (0, 2)
    assert result.history == expected.history
    assert result.best_epoch == expected.best_epoch
    _assert_equal_weights(resumed, whole)
    assert not (folder / "b").exists()
    return expected


def test_a_folder_that_cannot_be_made_is_told_in_a_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(1)])
    data = np.zeros((4, 2)), np.zeros((4, 1))
    with pytest.raises(errors.ConfigError, match=r"backup_dir .* cannot be made"):
        fit(model, data, task="regression", backup_dir=tmp_path / "file")


@pytest.mark.parametrize(
    "middle",
    [
        lambda: [
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.SpatialDropout2D(0.2),
            layers.GaussianNoise(0.1),
            layers.GaussianDropout(0.1),
            layers.Dropout(0.5),
        ],
        pytest.param(
            lambda: [layers.Reshape((6, 6)), layers.SimpleRNN(4, dropout=0.3)],
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda: [_Jitter()], marks=pytest.mark.slow),
        lambda: [_OwnGenerator()],
    ],
    ids=["layers", "rnn", "counting ops", "generator"],
)
def test_random_layers_go_on_where_they_were(tmp_path, middle):
    _check_resume(tmp_path, lambda seed=0: _model(*middle(), seed=seed), (X, Y))


def test_a_dataset_that_shuffles_and_augments_goes_on(tmp_path):
    def train():
        tf.random.set_seed(0)  # A shuffle's and a map's seeds are of the dataset.
        return (
            tf.data.Dataset.from_tensor_slices((X, Y))
            .shuffle(64, seed=3)
            .map(lambda x, y: (tf.image.random_flip_left_right(x, seed=1), y))
            .batch(10)
        )

    _check_resume(tmp_path, _model, train)


def test_a_function_of_the_epoch_goes_on(tmp_path):
    examples = data.ArrayExamples(X, Y)

    def train():
        return lambda epoch: to_tf_data(
            examples,
            preset("raw", (6, 6, 1)),
            task="classification",
            batch_size=16,
            shuffle=True,
            augment=["flip"],
            epoch=epoch,
        )

    _check_resume(tmp_path, _model, train)


@pytest.mark.parametrize("package", [tf_keras, keras])
def test_callbacks_of_both_keras_know_what_they_knew(tmp_path, package):
    options = dataclasses.replace(OPTIONS, schedule="constant", epochs=5)

    def callbacks():
        # Halves the rate after the second epoch, waits for one, halves it again.
        return [
            package.callbacks.ReduceLROnPlateau(
                "loss", factor=0.5, patience=1, min_delta=10.0, cooldown=1
            )
        ]

    found = _check_resume(tmp_path, _model, (X, Y), callbacks, options)
    plain = fit(
        _model(), (X, Y), validation=VALIDATION, task="classification", options=options
    )
    assert found.history["loss"][:2] == plain.history["loss"][:2]
    assert found.history["loss"][2:] != plain.history["loss"][2:]


class _Slowing(tf_keras.callbacks.Callback):
    """Scales the weights down by a factor that it keeps to itself."""

    def __init__(self):
        super().__init__()
        self.factors = np.ones(1)

    def get_state(self):
        return {"factors": self.factors}

    def set_state(self, state):
        self.factors = state["factors"]

    def on_epoch_end(self, epoch, logs=None):
        self.factors = np.append(self.factors, self.factors[-1] * 0.9)
        scaled = [w * self.factors[-1] for w in self.model.get_weights()]
        self.model.set_weights(scaled)


def test_the_state_of_the_users_callbacks_is_kept(tmp_path):
    _check_resume(tmp_path, _model, (X, Y), lambda: [_Slowing()])


@pytest.mark.parametrize(
    "optimizer",
    [
        tf_keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
        tf_keras.optimizers.legacy.RMSprop(0.01, momentum=0.5),
        # These two have variables that are not among their `variables`.
        lambda rate: tf_keras.optimizers.Nadam(rate),
        keras.optimizers.Adafactor(0.01),
    ],
    ids=["average", "legacy", "function", "keras 3"],
)
def test_optimizers_of_all_kinds_go_on(tmp_path, optimizer):
    options = dataclasses.replace(OPTIONS, optimizer=optimizer, schedule="constant")
    _check_resume(tmp_path, _model, (X, Y), options=options)


def test_callbacks_that_draw_numbers_draw_the_same(tmp_path):
    class Shake(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            weights = self.model.get_weights()
            noise = [np.random.normal(size=w.shape) * 0.1 for w in weights]  # noqa: NPY002
            self.model.set_weights([w + n for w, n in zip(weights, noise, strict=True)])

    _check_resume(tmp_path, _model, (X, Y), lambda: [Shake()])


class _DieInTheEnd(tf_keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        raise KeyboardInterrupt


def test_what_early_stopping_stopped_stays_stopped(tmp_path):
    ends = []

    def run(model, *more, backup_dir=None):
        return fit(
            model,
            (X, Y),
            validation=VALIDATION,
            task="classification",
            options=OPTIONS,
            epochs=9,
            backup_dir=backup_dir,
            callbacks=[
                tf_keras.callbacks.EarlyStopping("loss", min_delta=10.0, patience=2),
                *more,
            ],
        )

    whole, resumed = _model(), _model(seed=7)
    expected = run(whole)
    assert len(expected.history["loss"]) == 3
    with pytest.raises(KeyboardInterrupt):
        run(_model(), _DieInTheEnd(), backup_dir=tmp_path / "b")
    end = tf_keras.callbacks.LambdaCallback(on_train_end=ends.append)
    result = run(resumed, end, backup_dir=tmp_path / "b")
    assert result.first_epoch == 3 and result.history == expected.history
    _assert_equal_weights(resumed, whole)
    assert len(ends) == 1


def _leave_a_backup(folder, **options):
    with pytest.raises(KeyboardInterrupt):
        fit(
            _model(),
            (X, Y),
            task="classification",
            options=OPTIONS,
            backup_dir=folder,
            callbacks=[_StopAt(1, 0)],
            **options,
        )


def _go_on(folder, **options):
    options = {"options": OPTIONS, **options}
    return fit(_model(), (X, Y), task="classification", backup_dir=folder, **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 5}, "epochs"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"optimizer": tf_keras.optimizers.SGD}, "optimizer"),
        ({"seed": 1}, "seed"),
        ({"callbacks": [_Slowing()]}, "callbacks"),
    ],
)
def test_a_backup_of_another_training_is_refused(tmp_path, change, named):
    _leave_a_backup(tmp_path)
    with pytest.raises(errors.ConfigError, match=rf"another training \(.*{named}"):
        _go_on(tmp_path, **change)


def test_a_broken_backup_is_named(tmp_path):
    _leave_a_backup(tmp_path)
    state = tmp_path / "state.bin"
    state.write_bytes(state.read_bytes()[:-200])
    with pytest.raises(errors.ConfigError, match=r"state\.bin cannot be read"):
        _go_on(tmp_path)


def test_files_of_the_users_stay_in_the_folder(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    _leave_a_backup(tmp_path)
    (tmp_path / ".state.bin.a7").write_text("as a kill while writing leaves")
    assert _go_on(tmp_path).first_epoch == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_state_that_cannot_be_kept_is_named(tmp_path):
    class Holds(tf_keras.callbacks.Callback):
        def get_state(self):
            return {"handle": object()}

        def set_state(self, state):
            pass

    with pytest.raises(errors.ConfigError, match=r"\['handle'\] is a object"):
        _go_on(tmp_path, callbacks=[Holds()])


_SCRIPT = """
import hashlib, json, os, signal, sys
import numpy as np, tf_keras
from tfslim import data
from tfslim.data.tf_data import to_tf_data
from tfslim.preprocessing import preset
from tfslim.training import fit

layers = tf_keras.layers

class Kill(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if sys.argv[2] == "kill" and self.model.optimizer.iterations == 14:
            os.kill(os.getpid(), signal.SIGKILL)

class Hash(tf_keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.last = digest(self.model)

def digest(model):
    data = b"".join(weight.tobytes() for weight in model.get_weights())
    return hashlib.sha256(data).hexdigest()

rng = np.random.default_rng(0)
x = rng.normal(size=(96, 8, 8, 1)).astype("float32")
y = (x.mean((1, 2, 3)) > 0).astype("int64")
examples = data.ArrayExamples(x, y)
tf_keras.utils.set_random_seed(0)
model = tf_keras.Sequential([
    layers.Input((8, 8, 1)), layers.RandomZoom(0.2), layers.Conv2D(4, 3),
    layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5),
    layers.Flatten(), layers.Dense(2, activation="softmax")])
seen = Hash()
result = fit(
    model,
    lambda epoch: to_tf_data(examples, preset("raw", (8, 8, 1)), "classification",
                             batch_size=16, shuffle=True, augment=["flip", "shift"],
                             epoch=epoch),
    (x[:32], y[:32]), task="classification", epochs=4, learning_rate=0.02,
    deterministic=True, backup_dir=sys.argv[1], callbacks=[Kill(), seen])
print(result.first_epoch, file=sys.stderr)
print(json.dumps([result.history, result.best_epoch, digest(model), seen.last]))
"""


@pytest.mark.slow
def test_killed_processes_end_with_the_weights_of_those_that_lived(tmp_path):
    """SIGKILL in the third epoch, with shuffling, augmentation and dropout on."""

    def start(folder, mode):
        return subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(tmp_path / folder), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    killed, whole = start("a", "kill"), start("b", "go")
    killed.communicate()
    assert killed.returncode == -9
    resumed = start("a", "go")
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert err.split()[-1] == "2"
    assert json.loads(out) == json.loads(whole.communicate()[0])


def test_killed_before_the_first_candidate_for_the_best_epoch(tmp_path):
    options = dataclasses.replace(OPTIONS, best_from_epoch=3)

    def build(seed=0):
        return _model(layers.Dropout(0.5), seed=seed)

    _check_resume(tmp_path, build, (X, Y), options=options)
