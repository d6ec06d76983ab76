"""A job of several steps that was killed goes on where it was."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tf_keras

import tfslim
from tests.power import Power
from tfslim import config as config_lib
from tfslim import errors

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
STEPS = (
    "slim:method=activation,ratio=0.5,passes=1,divisor=1",
    "prune:0.25,divisor=1",
    "distill",
    "quantize",
)


@pytest.fixture
def power(monkeypatch):
    return Power(monkeypatch)


def _model(seed=0):
    # Names, which stand in the files, count anew as in a new process.
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(2, activation="softmax"),
        ]
    )


def _export(out_dir, backup_dir="", *, model=None, changes=None, **options):
    config = config_lib.default_config()
    fields = {
        "steps": STEPS,
        "training": {
            "epochs": 2,
            "batch_size": 16,
            "backup_dir": str(backup_dir) or None,
        },
        "quantization": {"recipes": ("float32",)},
        "benchmark": {"runners": ()},
        **{name: {"epochs": 2} for name in ("slim", "prune", "distill", "quantize")},
        **(changes or {}),
    }
    config_lib.merge(config, fields)
    data = {"train_data": (X, Y), "validation_data": (X, Y), "eval_data": (X, Y)}
    return tfslim.export_model(
        model or _model(),
        out_dir=out_dir,
        config=config,
        task="classification",
        **{**data, **options},
    )


def _without_times(value):
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k != "seconds"}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value


def _assert_same_result(one, other):
    for name in ("float32", "int8_qat"):
        assert (one / f"{name}.tflite").read_bytes() == (
            other / f"{name}.tflite"
        ).read_bytes()
    found, wanted = (
        _without_times(json.loads((folder / "result.json").read_text()))
        for folder in (one, other)
    )
    for key in ("training", "slimming", "keras_metric", "variants"):
        assert found[key] == wanted[key], key


@pytest.mark.slow
def test_a_job_killed_in_its_third_step_goes_on_there(power, tmp_path):
    whole, killed, backup = (tmp_path / name for name in ("a", "b", "backup"))
    _, begun = power.run(lambda: _export(whole))
    # The first training, and one in each step.
    assert begun == (0,) * 5
    with pytest.raises(KeyboardInterrupt):
        power.run(lambda: _export(killed, backup), dies=(3, 1))
    assert backup.exists() and not (killed / "result.json").exists()
    _, begun = power.run(lambda: _export(killed, backup))
    assert begun == (1, 0)
    _assert_same_result(killed, whole)
    assert not backup.exists()


@pytest.mark.slow
def test_a_users_training_is_not_repeated(power, tmp_path):
    calls = []

    def train(model):
        calls.append(len(model.get_weights()))
        model.compile("sgd", "sparse_categorical_crossentropy")
        tf_keras.Model.fit(model, X, Y, verbose=0, initial_epoch=0, callbacks=[])

    whole, killed, backup = (tmp_path / name for name in ("a", "b", "backup"))
    steps = {"steps": ("prune:0.5,divisor=1", "quantize")}
    options = {"changes": steps, "train_fn": train}
    _export(whole, tmp_path / "whole", **options)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        power.run(lambda: _export(killed, backup, **options), dies=(2, 1))
    _export(killed, backup, **options)
    assert len(calls) == 2
    _assert_same_result(killed, whole)


def test_the_folder_of_another_job_is_refused(power, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        power.run(lambda: _export(tmp_path / "a", tmp_path / "c"), dies=(0, 1))
    changes = {"steps": STEPS[:1], "prune": {"epochs": 3}, "verify": {"num_samples": 9}}
    with pytest.raises(errors.ConfigError, match=r"config\.steps, config\.prune\)"):
        _export(tmp_path / "b", tmp_path / "c", changes=changes)
    with pytest.raises(errors.ConfigError, match=r"another job \(different model\)"):
        _export(tmp_path / "b", tmp_path / "c", model=_model(1))
    assert not (tmp_path / "b").exists()


_KILLED_JOB = """
import os, signal, sys
import tf_keras
from tfslim import export

fit, dies = tf_keras.Model.fit, sys.argv[1] == "kill"
started = []

def counted(model, *args, callbacks, **options):
    started.append(options["initial_epoch"])
    def end(epoch, logs):
        if dies and len(started) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    cut = tf_keras.callbacks.LambdaCallback(on_epoch_end=end)
    return fit(model, *args, callbacks=[*callbacks, cut], **options)

tf_keras.Model.fit = counted
code = export.main(["export", "--overwrite", *sys.argv[2:]])
print(started)
sys.exit(code)
"""


@pytest.mark.slow
def test_a_command_that_is_killed_ends_as_one_that_is_not(tmp_path):
    """SIGKILL in the third step, with a model of the zoo that starts at random."""

    def command(how, out_dir, *more):
        arguments = [
            f"--out={tmp_path / out_dir}",
            "--data=digits",
            "--model=mlp:hidden=(32,)",
            "--epochs=2",
            "--recipe=float32",
            "--config.benchmark.runners=()",
            "--steps=slim:method=prox_sg,epochs=2,sparse_epochs=2 sparsify:epochs=2 "
            "quantize:epochs=2",
            *more,
        ]
        return subprocess.run(
            [sys.executable, "-c", _KILLED_JOB, how, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )

    backup = f"--config.training.backup_dir={tmp_path / 'backup'}"
    whole = command("live", "a")
    assert whole.returncode == 0, whole.stderr
    assert command("kill", "b", backup).returncode == -signal.SIGKILL
    resumed = command("live", "b", backup)
    assert resumed.returncode == 0, resumed.stderr
    # The first training, two of Prox-SG, one of each other step.
    assert whole.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0]"
    assert resumed.stdout.splitlines()[-1] == "[1, 0]"
    _assert_same_result(tmp_path / "b", tmp_path / "a")
    assert not (tmp_path / "backup").exists()
