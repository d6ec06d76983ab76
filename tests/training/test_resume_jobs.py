"""Jobs of several trainings that were killed end as those that were not."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.power import Power
from tfslim import errors
from tfslim.training import FitOptions

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
TRAIN, VALIDATION = (X, Y), (X[:20], Y[:20])
EPOCHS = 2
SHORT = {"batch_size": 16, "learning_rate": 0.02}


def _model(k=tf_keras, seed=0):
    k.utils.set_random_seed(seed)
    layers = k.layers
    x = inputs = k.Input((6,))
    x = layers.Dense(16, name="a")(x)
    x = layers.BatchNormalization(name="a_bn")(x)
    x = layers.ReLU(name="a_relu")(x)
    x = layers.Dropout(0.3)(x)
    return k.Model(inputs, layers.Dense(3, activation="softmax", name="out")(x))


def _slim(model, **options):
    return tfslim.slim_network(
        model,
        TRAIN,
        VALIDATION,
        task="classification",
        budget=tfslim.Budget(pruning_ratio=0.5, scope="global", divisor=1),
        **{
            "passes": 2,
            "sparse_epochs": EPOCHS,
            "fine_tune_epochs": EPOCHS,
            **SHORT,
            **options,
        },
    )


def _prox(model, **options):
    return tfslim.prox_sg(
        model,
        TRAIN,
        VALIDATION,
        task="classification",
        divisor=1,
        sparse_epochs=EPOCHS,
        fine_tune_epochs=EPOCHS,
        **{**SHORT, **options},
    )


def _training():
    options = FitOptions(epochs=EPOCHS, **SHORT)
    return tfslim.Training(train=TRAIN, validation=VALIDATION, options=options)


def _activation(model, **options):
    return tfslim.activation_pruning(model, X, fine_tune=_training(), **options)


def _iterative(model, **options):
    budget = tfslim.Budget(pruning_ratio=0.75, divisor=1)
    return tfslim.prune_iteratively(
        model, _training(), **{"budget": budget, "steps": 3, **options}
    )


def _distill(model, **options):
    return tfslim.distill(
        model,
        _teacher(),
        data=TRAIN,
        validation=VALIDATION,
        features={"a_relu": "wide"},
        **{"epochs": EPOCHS, **SHORT, **options},
    )


@functools.cache
def _teacher():
    tf_keras.utils.set_random_seed(5)
    layers = tf_keras.layers
    wide = layers.Dense(20, activation="relu", name="wide")
    return tf_keras.Sequential([layers.Input((6,)), wide, layers.Dense(3)])


def _sparsify(model, **options):
    done = tfslim.sparsify(
        model,
        TRAIN,
        validation=VALIDATION,
        **{"target": 0.5, "clusters": 4, "epochs": EPOCHS, **SHORT, **options},
    )
    return done.model, [done.report.stages, [t.history for t in done.report.trainings]]


@pytest.fixture
def power(monkeypatch):
    return Power(monkeypatch)


def _assert_equal(one, other):
    """Compares whatever is in a report, bit for bit."""
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            if field.name != "seconds":
                _assert_equal(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            _assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _assert_equal(a, b)
    else:
        np.testing.assert_array_equal(one, other)


def _assert_same_result(one, other):
    (model, report), (other_model, other_report) = one, other
    assert type(model) is type(other_model)
    _assert_equal(model.get_weights(), other_model.get_weights())
    _assert_equal(report, other_report)


JOBS = {
    "slim_network": _slim,
    "prox_sg": _prox,
    "threshold": functools.partial(_activation, threshold=0.55, cycles=2),
    "target": functools.partial(_activation, pruning_ratio=0.5, cycles=2),
    "auto": functools.partial(_activation, threshold="auto", max_drop=0.5, cycles=2),
    "prune_iteratively": _iterative,
    "distill": _distill,
    "magnitude": _sparsify,
    "qat": functools.partial(_sparsify, method="qat"),
    "cluster": functools.partial(_sparsify, method="cluster"),
    "pcqat": functools.partial(_sparsify, method="pcqat"),
}
_SEVERAL = {*JOBS} - {"distill", "magnitude", "qat", "cluster"}
# Each has the same machinery: one is enough for every day.
_SLOW = {*JOBS} - {"qat"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in _SLOW else []) for n in JOBS],
)
def test_a_job_killed_in_a_training(name, power, tmp_path):
    job = functools.partial(JOBS[name], _model())
    expected, begun = power.run(job)
    assert set(begun) == {0} and (len(begun) > 1) == (name in _SEVERAL)
    middle = len(begun) // 2
    job = functools.partial(job, backup_dir=tmp_path / "job")
    with pytest.raises(KeyboardInterrupt):
        power.run(job, dies=(middle, 1))
    result, begun_after = power.run(job)
    # Those before are loaded; this one goes on in its second epoch.
    assert begun_after == (1, *begun[middle + 1 :])
    _assert_same_result(result, expected)
    assert not (tmp_path / "job").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_job_of_keras_3_killed_twice(name, power, tmp_path):
    """In a training, and between it and the next one."""
    job = functools.partial(JOBS[name], _model(keras))
    expected, begun = power.run(job)
    job = functools.partial(job, backup_dir=tmp_path / "job")
    with pytest.raises(KeyboardInterrupt):
        power.run(job, dies=(0, 1))
    if len(begun) > 1:
        with pytest.raises(KeyboardInterrupt):
            power.run(job, dies=(1, 0))
    result, begun_after = power.run(job)
    assert begun_after == (begun[1:] or (1,))
    _assert_same_result(result, expected)
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("job", "change", "named"),
    [
        (_slim, {"fold": "none"}, "fold"),
        (_prox, {"strength": 0.1}, "strength"),
        (_activation, {"reconstruct": True}, "reconstruct"),
        (_iterative, {"steps": 2}, "steps"),
        (_distill, {"teacher_weight": 0.5}, "teacher_weight"),
        (_sparsify, {"target": 0.25}, "target"),
    ],
)
def test_the_folder_of_another_job_is_refused(job, change, named, power, tmp_path):
    model = _model()
    with pytest.raises(KeyboardInterrupt):
        power.run(lambda: job(model, backup_dir=tmp_path), dies=(0, 1))
    with pytest.raises(errors.ConfigError, match=rf"another job \(different {named}"):
        job(model, backup_dir=tmp_path, **change)
    with pytest.raises(errors.ConfigError, match="different model"):
        job(_model(seed=1), backup_dir=tmp_path)


def test_a_wrong_option_does_not_bind_the_folder(tmp_path):
    with pytest.raises(errors.ConfigError, match="a_bn"):
        _slim(_model(), layers="bm*", backup_dir=tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    _slim(_model(), passes=1, sparse_epochs=1, fine_tune_epochs=1, backup_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_stages_that_a_function_trained_are_not_trained_again(tmp_path):
    calls, results = [], []

    def train(model, callbacks):
        calls.append(1)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(*TRAIN, epochs=1, verbose=0, callbacks=callbacks)

    for _ in range(2):
        done = tfslim.sparsify(
            _model(),
            train_fn=train,
            steps=1,
            method="pqat",
            target=0.5,
            backup_dir=tmp_path,
            keep_backup=True,
        )
        results.append((done.model, done.report.stages))
    assert len(calls) == 2
    _assert_same_result(*results)
