"""Several replicas and several processes train as one does."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import errors
from tfslim.training import fit, start_workers, workers

ROOT = Path(__file__).parents[2]
# 52 examples: the last batch of 8 has 4.
X = np.random.default_rng(0).normal(size=(52, 4)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def train_all(strategy, is_chief=True):
    """Trains a tf_keras model on arrays and a Keras 3 model on a Dataset."""
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    found = {}
    for package, train in ((tf_keras, (X, Y)), (keras, dataset)):
        model = _model(package)
        if not is_chief:  # What other workers start from must not matter.
            model.set_weights([np.ones_like(w) for w in model.get_weights()])
        result = fit(
            model,
            train,
            validation=(X[:14], Y[:14]),
            task="regression",
            epochs=2,
            batch_size=8,
            learning_rate=0.01,
            strategy=strategy,
            sync_batch_norm=True,
        )
        found[package.__name__] = [
            np.concatenate([w.ravel() for w in model.get_weights()]).tolist(),
            result.history["loss"],
            result.history["val_loss"],
        ]
    return found


def _model(package):
    model = package.Sequential(
        [
            package.layers.Input((4,)),
            package.layers.Dense(8, activation="relu"),
            package.layers.BatchNormalization(),
            package.layers.Dense(1),
        ]
    )
    rng = np.random.default_rng(1)
    model.set_weights(
        [rng.normal(size=w.shape) if w.ndim == 2 else w for w in model.get_weights()]
    )
    return model


def _start(code, *arguments, **environment):
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def _results(*processes):
    found = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-3000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


def _tf_config(ports, index):
    return json.dumps(
        {
            "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
            "task": {"type": "worker", "index": index},
        }
    )


def _free_ports(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@pytest.fixture(scope="module")
def alone():
    return train_all("none")


def _assert_close(found, alone):
    assert found.keys() == alone.keys()
    for name, figures in alone.items():
        for ours, theirs in zip(found[name], figures, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-6, err_msg=name)


_MIRRORED = """
import json
import numpy as np, tensorflow as tf, tf_keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import test_workers
from tfslim.training import randomness, replicas
strategy = replicas.resolve_strategy("mirrored")
with strategy.scope():
    model = tf_keras.Sequential(
        [tf_keras.layers.Input((1000,)), tf_keras.layers.Dropout(0.5)])
    model.compile("sgd", "mse")
with randomness.drawn_by_step(model, 0):
    drawn = tf.function(lambda: strategy.run(
        lambda: model(tf.ones((1, 1000)), training=True)))()
a, b = (part.numpy() for part in strategy.experimental_local_results(drawn))
found = test_workers.train_all("mirrored")
print(json.dumps({**found, "same": int(np.sum(a == b)),
                  "replicas": strategy.num_replicas_in_sync}))
"""


@pytest.mark.slow
def test_two_mirrored_replicas_train_as_one_device_does(alone):
    found = _results(_start(_MIRRORED))[0]
    assert found.pop("replicas") == 2
    assert 420 < found.pop("same") < 580  # Dropout masks of their own.
    _assert_close(found, alone)


_WORKER = """
import json, os
import tfslim
tfslim.start_workers(timeout_s=120)
import test_workers
is_chief = json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0
print(json.dumps(test_workers.train_all("multiworker", is_chief)))
"""


@pytest.mark.slow
def test_two_workers_train_as_one_process_does(alone):
    ports = _free_ports(2)
    chief, other = _results(
        *(_start(_WORKER, TF_CONFIG=_tf_config(ports, index)) for index in (0, 1))
    )
    assert chief == other
    _assert_close(chief, alone)


_DYING = """
import json, os, signal, sys
import tfslim
tfslim.start_workers(timeout_s=120)
import numpy as np, tf_keras
import test_workers
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]

class Die(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if index == int(os.environ["DIES"]) and self.model.optimizer.iterations == 15:
            os.kill(os.getpid(), signal.SIGKILL)

layers = tf_keras.layers
tf_keras.utils.set_random_seed(0)
model = tf_keras.Sequential([
    layers.Input((4,)), layers.Dense(8), layers.Dropout(0.3),
    layers.BatchNormalization(), layers.Dense(1)])
try:
    result = tfslim.fit(
        model, (test_workers.X, test_workers.Y), task="regression", epochs=4,
        batch_size=8, strategy="multiworker", callbacks=[Die()],
        backup_dir=os.environ["FOLDER"] + str(index))
    print(json.dumps([result.first_epoch, [w.tolist() for w in model.get_weights()]]))
except tfslim.TfslimError as error:
    print(json.dumps(str(error)))
"""


_EXPORT = """
import sys
from tfslim import export
sys.exit(export.main(["export", "--model=mlp:hidden=(16,)", "--data=digits",
    "--epochs=1", "--steps=prune:0.5,divisor=1,epochs=1", "--strategy=multiworker",
    "--quantize=float32", "--benchmark=", "--out_dir=" + sys.argv[1]]))
"""


@pytest.mark.slow
def test_the_main_job_on_two_workers_is_written_once(tmp_path):
    ports = _free_ports(2)
    chief, other = (
        _start(_EXPORT, str(tmp_path / "out"), TF_CONFIG=_tf_config(ports, index))
        for index in (0, 1)
    )
    (out, err), (other_out, other_err) = chief.communicate(), other.communicate()
    assert (chief.returncode, other.returncode) == (0, 0), err + other_err
    assert "model.keras" in out
    assert "the chief worker writes the files" in other_out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["slimming"][0]["params"] == [64 * 16 + 16 + 170, 64 * 8 + 8 + 90]


@pytest.mark.slow
def test_workers_tell_of_a_dead_one_and_go_on_after_a_restart(tmp_path):
    """No folder is shared: only the chief has the backup."""

    def run(folder, dies):
        ports = _free_ports(2)
        return [
            _start(
                _DYING,
                TF_CONFIG=_tf_config(ports, index),
                FOLDER=str(tmp_path / folder),
                DIES=str(dies),
            )
            for index in (0, 1)
        ]

    chief, other = run("a", dies=1)
    message = _results(chief)[0]
    assert "because worker 1 of TF_CONFIG stopped answering" in message
    other.communicate()
    assert other.returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == ["a0"]
    resumed = _results(*run("a", dies=-1))
    whole = _results(*run("b", dies=-1))
    assert [first for first, _ in resumed] == [2, 2]
    assert resumed[0][1] == resumed[1][1] == whole[0][1] == whole[1][1]
    assert not list(tmp_path.iterdir())


def test_after_tensorflows_start_it_is_too_late(monkeypatch):
    tf.constant(1)
    monkeypatch.setenv("TF_CONFIG", _tf_config([1], 0))
    with pytest.raises(errors.ConfigError, match=r"start_workers\(\) at the top"):
        start_workers()


def test_a_missing_worker_is_named(monkeypatch):
    own, missing = _free_ports(2)
    monkeypatch.setenv("TF_CONFIG", _tf_config([own, missing], 0))
    with pytest.raises(
        errors.ConfigError, match=rf"127\.0\.0\.1:{missing} within 0\.3"
    ):
        workers.await_peers(0.3)


def test_workers_that_come_later_are_awaited(monkeypatch):
    own, late = _free_ports(2)
    monkeypatch.setenv("TF_CONFIG", _tf_config([own, late], 0))
    seen = []

    def come():
        time.sleep(0.7)
        # The other looks for this worker in the same way.
        seen.append(workers._answers(f"127.0.0.1:{own}"))
        with socket.create_server(("127.0.0.1", late)):
            time.sleep(1.5)

    thread = threading.Thread(target=come)
    thread.start()
    workers.await_peers(20.0)
    thread.join()
    assert seen == [True]
    # The port is free again for TensorFlow.
    socket.create_server(("127.0.0.1", own)).close()


def test_a_port_that_is_taken_is_named(monkeypatch):
    own, other = _free_ports(2)
    monkeypatch.setenv("TF_CONFIG", _tf_config([own, other], 0))
    with (
        socket.create_server(("", own)),
        pytest.raises(errors.ConfigError, match=f"Port {own}"),
    ):
        workers.await_peers(1.0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:2"]}}',
        '{"cluster": {"w": ["a:1", "b"]}, "task": {"type": "w", "index": 0}}',
        '{"cluster": {"w": ["a:1", "b:2"]}, "task": {"type": "w", "index": 2}}',
    ],
)
def test_a_wrong_tf_config_is_named(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(errors.ConfigError, match="Expected such as") as caught:
        workers.await_peers(1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", '{"cluster": {"worker": ["127.0.0.1:1"]}}'])
def test_one_worker_waits_for_nobody(monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    workers.await_peers(0.0)
