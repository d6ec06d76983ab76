"""MLflow's file store, read back by MLflow itself."""

import importlib.util

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import errors

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)


@pytest.fixture
def mlflow(monkeypatch):
    module = pytest.importorskip("mlflow", reason="pip install 'tfslim[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return module


def _model(package):
    model = package.Sequential(
        [package.Input((4,)), package.layers.Dense(2, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("package", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_every_epoch_is_logged(mlflow, package, tmp_path):
    model = _model(package)
    tracking = tfslim.callbacks.MLflow(
        tmp_path, experiment="slim", run_name="first", params={"ratio": 0.5}
    )
    history = model.fit(
        X, Y, validation_data=(X, Y), epochs=3, verbose=0, callbacks=[tracking]
    ).history
    client = mlflow.MlflowClient(tracking_uri=tmp_path.as_uri())
    run = client.get_run(tracking.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "first"
    assert run.data.params["ratio"] == "0.5"
    assert run.data.params["params"] == str(model.count_params())
    assert client.get_experiment(run.info.experiment_id).name == "slim"
    for name, values in history.items():
        logged = client.get_metric_history(tracking.run_id, name)
        assert [entry.step for entry in logged] == [0, 1, 2]
        assert [entry.value for entry in logged] == pytest.approx(values)


def test_the_active_run_goes_on(mlflow, tmp_path):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    try:
        with mlflow.start_run() as active:
            tracking = tfslim.callbacks.MLflow()
            options = {"task": "classification", "epochs": 2, "verbose": False}
            tfslim.fit(_model(tf_keras), (X, Y), callbacks=[tracking], **options)
            assert tracking.run_id == active.info.run_id
            assert mlflow.active_run().info.status == "RUNNING"
        assert "loss" in mlflow.get_run(active.info.run_id).data.metrics
    finally:
        mlflow.set_tracking_uri(before)


def test_a_place_that_mlflow_refuses_is_one_line(mlflow):
    tracking = tfslim.callbacks.MLflow("nonsense://here")
    with pytest.raises(errors.ConfigError, match="cannot log to nonsense") as caught:
        _model(tf_keras).fit(X, Y, verbose=0, callbacks=[tracking])
    assert "\n" not in str(caught.value)


def test_without_mlflow_the_command_that_installs_it_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "mlflow" else find(name, *more),
    )
    with pytest.raises(errors.ConfigError, match=r"pip install 'tfslim\[mlflow\]'"):
        tfslim.callbacks.MLflow()
