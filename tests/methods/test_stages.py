"""Finished stages are loaded, others are made."""

import functools

import keras
import numpy as np
import pytest
import tf_keras

from tfslim import errors
from tfslim.methods.stages import Stages
from tfslim.training import fit

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def _model(package=tf_keras):
    return package.Sequential([package.layers.Input((4,)), package.layers.Dense(1)])


class _Stop(tf_keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


class _Job:
    """Three trainings in a row; dies in the one with number `dies`."""

    def __init__(self, package=tf_keras, dies=None):
        self.package, self.dies, self.made = package, dies, []

    def run(self, folder):
        stages = Stages(folder, {"epochs": 3})
        tf_keras.utils.set_random_seed(0)
        model = _model(self.package)
        model.set_weights([np.ones((4, 1)), np.zeros(1)])
        reports = []
        for number in range(3):
            stage = functools.partial(self._train, model, number)
            model, report = stages.run(f"pass {number}", stage)
            reports.append(report)
        return model, reports, stages

    def _train(self, model, number, folder):
        result = fit(
            model,
            (X, Y * (number + 2)),
            task="regression",
            epochs=3,
            batch_size=8,
            backup_dir=folder,
            callbacks=[_Stop()] if number == self.dies else [],
        )
        self.made.append((number, result.first_epoch))
        return model, {"loss": result.history["loss"]}


@pytest.mark.parametrize("package", [tf_keras, keras])
def test_a_killed_job_ends_as_one_that_lived(tmp_path, package):
    whole, expected, _ = _Job(package).run(None)
    with pytest.raises(KeyboardInterrupt):
        _Job(package, dies=1).run(tmp_path / "job")
    rest = _Job(package)
    model, reports, stages = rest.run(tmp_path / "job")
    # The first was loaded, the second went on in its third epoch.
    assert rest.made == [(1, 2), (2, 0)]
    assert reports == expected
    assert type(model).__module__.partition(".")[0] == package.__name__
    for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "job" / ".002-pass-1.a7").mkdir()  # As a kill while writing leaves.
    stages.remove()
    assert not (tmp_path / "job").exists()


def test_own_layers_are_loaded_and_own_files_stay(tmp_path):
    class Doubling(tf_keras.layers.Layer):
        def call(self, x):
            return 2 * x

    made = tf_keras.Sequential(
        [tf_keras.layers.Input((4,)), Doubling(), tf_keras.layers.Lambda(lambda x: -x)]
    )
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        stages = Stages(tmp_path, {}, {"Doubling": Doubling})
        model, report = stages.run("a/b: c", lambda folder: (made, {"done": 1}))
    assert model is not made and report == {"done": 1}
    np.testing.assert_array_equal(model(X), -2 * X)
    stages.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_stages_of_another_job_are_refused(tmp_path):
    Stages(tmp_path, {"ratio": 0.5, "model": "a"})
    Stages(tmp_path, {"ratio": 0.5, "model": "a"})
    with pytest.raises(errors.ConfigError, match=r"another job \(different ratio\)"):
        Stages(tmp_path, {"ratio": 0.4, "model": "a"})


def test_a_name_is_taken_once(tmp_path):
    stages = Stages(None, {})
    stages.run("cut", lambda folder: (_model(), {}))
    with pytest.raises(errors.ConfigError, match="two stages named 'cut'"):
        stages.run("cut", lambda folder: (_model(), {}))
