"""The folder of a job: what is known again, what is not, and what stays in it."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import errors
from tfslim.training import FitOptions
from tfslim.training.job import ResumableJob

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
DATA = X, X.sum(1, keepdims=True)


class _Doubling(tf_keras.layers.Layer):
    def call(self, x):
        return 2 * x


def _model(weight, k=tf_keras, *, middle=()):
    layers = k.layers
    model = k.Sequential([layers.Input((4,)), *middle, layers.Dense(1)])
    model.set_weights([np.full((4, 1), weight), np.zeros(1)])
    return model


def _options(folder):
    return FitOptions(epochs=1, batch_size=8, backup_dir=folder)


def _train(job, model, folder):
    how = tfslim.Training(train=DATA, task="regression", options=_options(folder))
    return job.train(model, how).first_epoch


def test_what_a_cut_changed_is_trained_anew_with_all_that_follows(tmp_path):
    first = ResumableJob(_options(tmp_path), _model(0), description={"a": 1})
    assert [_train(first, _model(w), tmp_path) for w in (1, 2, 3)] == [0, 0, 0]
    again = ResumableJob(_options(tmp_path), _model(0), description={"a": 1})
    # An ended training is loaded: it has no epoch left.
    assert [_train(again, _model(w), tmp_path) for w in (1, 2.5, 3)] == [1, 0, 0]
    third = ResumableJob(_options(tmp_path), _model(0), description={"a": 1})
    assert [_train(third, _model(w), tmp_path) for w in (1, 2.5, 3)] == [1, 1, 1]


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
@pytest.mark.parametrize("is_new", [False, True])
def test_a_function_is_called_once(k, is_new, tmp_path):
    calls = []

    def fine_tune(model):
        calls.append(np.random.uniform())  # noqa: NPY002 - as a user's function may
        result = _model(0, k) if is_new else model
        result.set_weights([w + calls[0] for w in model.get_weights()])
        result.layers[-1].trainable = False
        return result if is_new else None

    tuned = []
    for draws in (0, 5):
        np.random.default_rng(0)
        job = ResumableJob(_options(tmp_path), _model(0, k))
        np.random.uniform(size=draws)  # noqa: NPY002
        tuned.append(job.tuned(_model(1, k), fine_tune))
    assert len(calls) == 1 and not tuned[1].layers[-1].trainable
    for a, b in zip(tuned[0].get_weights(), tuned[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    job.finish()
    ResumableJob(_options(tmp_path), _model(0, k)).tuned(_model(1, k), fine_tune)
    assert calls[0] == calls[1]  # Drawn from the seed and the number.


def test_own_layers_are_loaded_and_own_files_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    made = _model(1, middle=[_Doubling(), tf_keras.layers.Lambda(lambda x: -x)])
    for _ in range(2):
        job = ResumableJob(_options(tmp_path), made)
        model = job.tuned(made, lambda model: None)
    assert model is not made
    np.testing.assert_array_equal(model(X), made(X))
    np.testing.assert_allclose(model(X), -2 * X.sum(1, keepdims=True), rtol=1e-5)
    (tmp_path / ".002-0123456789abcdef.a7").mkdir()  # As a kill while writing leaves.
    (tmp_path / ".job.json.a7").write_text("{")
    job.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_values_are_kept_and_come_back_alike(tmp_path):
    made = [
        {"keep": np.array([True, False]), "metric": 0.1, "why": None},
        {"keep": np.zeros(2, bool), "metric": 0.2, "why": "noise"},
    ]
    for _ in range(2):
        job = ResumableJob(_options(tmp_path), _model(0))
        found = job.value(made.pop)
        assert (found["metric"], found["why"]) == (0.2, "noise")
        assert found["keep"].dtype == bool and not found["keep"].any()
    assert len(made) == 1
    [path] = tmp_path.glob("*.bin")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(errors.ConfigError, match="Delete the folder to start anew"):
        ResumableJob(_options(tmp_path), _model(0)).value(made.pop)


def test_a_folder_that_cannot_be_made_is_told_in_a_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(errors.ConfigError, match="cannot be made"):
            ResumableJob(_options(place), _model(0))


def test_a_script_of_several_calls_keeps_what_has_ended(tmp_path):
    """`keep_backup`: the same call does not train again."""
    models = [_model(1), _model(2)]
    for model, first_epoch in zip(models, (0, 2), strict=True):
        result = tfslim.fit(
            model,
            DATA,
            task="regression",
            epochs=2,
            backup_dir=tmp_path,
            keep_backup=True,
        )
        assert result.first_epoch == first_epoch and len(result.history["loss"]) == 2
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
