"""Slimming steps inside the main job."""

import json

import keras
import numpy as np
import pytest
import sklearn.datasets
import tf_keras

import tfslim
from tfslim import config as config_lib
from tfslim import export, tflite


def _export(out_dir, *arguments):
    return export.main(
        [
            "export",
            f"--out={out_dir}",
            "--data=digits",
            "--recipe=float32,int8",
            "--config.benchmark.num_runs=2",
            *arguments,
        ]
    )


def test_prune_by_the_short_form(tmp_path):
    code = _export(
        tmp_path,
        "--model=mlp:hidden=(64,)",
        "--epochs=2",
        "--prune=channels:0.5",
        "--config.prune.epochs=1",
    )
    assert code == 0
    result = json.loads((tmp_path / "result.json").read_text())
    [step] = result["slimming"]
    # 64 pixels to 64, then 32 hidden units, to 10 classes.
    assert step["params"] == [64 * 65 + 65 * 10, 64 * 32 + 32 + 33 * 10]
    assert step["macs"] == [64 * 64 + 640, 64 * 32 + 320]
    assert result["model"]["params"] == step["params"][1]
    assert step["proof_error"] < 1e-4
    assert {"before", "cut", "fine_tuned"} <= set(step["metric"])
    assert "64 -> 32" in (tmp_path / "report.md").read_text()
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.count_params() == step["params"][1]


def test_prune_and_factorize_with_options(tmp_path):
    code = _export(
        tmp_path,
        "--model=mlp:hidden=(64,)",
        "--epochs=2",
        "--prune=channels:criterion=taylor,ratio=0.25",
        "--factorize=svd:energy=0.7",
        "--config.prune.epochs=0",
        "--config.factorize.epochs=1",
        "--config.factorize.divisor=1",
    )
    assert code == 0
    result = json.loads((tmp_path / "result.json").read_text())
    prune, factorize = result["slimming"]
    assert "fine_tuned" not in prune["metric"]
    assert prune["params"][1] == 64 * 48 + 48 + 49 * 10
    assert factorize["params"][0] == prune["params"][1]
    assert factorize["macs"][1] < factorize["macs"][0]


def test_what_is_behind_a_cut_is_fitted(tmp_path):
    metrics = {}
    for way in ("false", "true"):
        out = tmp_path / way
        flags = ["--model=mlp:hidden=(64,)", "--epochs=3", "--config.prune.epochs=0"]
        prune = f"--prune=channels:ratio=0.75,divisor=1,reconstruct={way}"
        assert _export(out, *flags, prune, "--recipe=float32") == 0
        [step] = json.loads((out / "result.json").read_text())["slimming"]
        metrics[way] = step["metric"]
        assert step["proof_error"] < 1e-4
    assert metrics["true"]["before"] == metrics["false"]["before"]
    # 16 of 64 hidden units that know nothing of the others, and the same 16 fitted.
    assert metrics["true"]["cut"] > metrics["false"]["cut"] + 0.02


def test_limit_in_macs(tmp_path):
    code = _export(
        tmp_path,
        "--model=mlp:hidden=(64,)",
        "--epochs=1",
        "--prune=channels:max_macs=2000,divisor=1,epochs=0",
    )
    assert code == 0
    result = json.loads((tmp_path / "result.json").read_text())
    # A hidden unit costs 74; 27 of them are the most that fit.
    assert result["model"]["macs"] == 27 * 74


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--prune=chanels:0.5", "Did you mean 'channels'?"),
        ("--prune=channels:1.5", "1.5"),
        ("--prune=channels:criterion=l1norm,ratio=0.5", "Did you mean 'l1_norm'?"),
        ("--prune=channels:ration=0.5", "Did you mean 'prune.ratio'?"),
        ("--factorize=tuker:0.9", "Did you mean 'tucker'?"),
        ("--factorize=tucker", "needs one of energy"),
        ("--factorize=tucker:energy=0.9,target=0.5", "energy and target"),
        ("--factorize=svd:energy=2", "must be in (0, 1]"),
    ],
)
def test_wrong_usage(tmp_path, capsys, argument, message):
    out_dir = tmp_path / "out"
    assert _export(out_dir, "--model=mlp", argument) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tfslim.export: error: ")
    assert message in error
    assert not out_dir.exists()


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_users_model_of_either_keras_is_pruned_and_trained_on(tmp_path, k):
    inputs = k.Input((4,), name="x")
    hidden = k.layers.Dense(32, activation="relu")(inputs)
    model = k.Model(inputs, k.layers.Dense(1)(hidden), name="tiny")
    x = np.random.default_rng(0).uniform(size=(256, 4)).astype(np.float32)
    data = x, x.sum(axis=1, keepdims=True)
    config = config_lib.default_config()
    config_lib.merge(
        config,
        {
            "prune": {"method": "channels", "ratio": 0.5, "epochs": 2},
            "quantization": {"recipes": ("float32",)},
            "benchmark": {"num_runs": 2},
        },
    )
    result = tfslim.export_model(
        model,
        out_dir=tmp_path / "out",
        config=config,
        train_data=data,
        eval_data=data,
        task="regression",
    )
    assert result["model"]["params"] == 4 * 16 + 16 + 17
    assert model.count_params() == 4 * 32 + 32 + 33


@pytest.mark.slow
def test_steps_run_in_the_order_given_each_with_its_own_training(tmp_path):
    code = _export(
        tmp_path,
        "--model=mlp:hidden=(64,)",
        "--epochs=2",
        "--steps=width:0.5,epochs=1 prune:0.25,divisor=1,epochs=0 "
        "prune:0.5,divisor=1,criterion=random,epochs=0",
    )
    assert code == 0
    result = json.loads((tmp_path / "result.json").read_text())
    width, first, second = result["slimming"]
    # 64 hidden units, then 32, 24 and 12, each with 64 + 1 + 10 weights.
    assert [step["params"][1] for step in (width, first, second)] == [
        units * 75 + 10 for units in (32, 24, 12)
    ]
    assert "fine_tuned" in width["metric"]
    assert "fine_tuned" not in first["metric"]
    assert "random" in second["step"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("widht:0.5", "Did you mean 'width'?"),
        ("width", "config.width.alpha must be in (0, 1], got None"),
        ("width:2", "got 2.0"),
        ("width:0.5,alfa=1", "Did you mean 'width.alpha'?"),
        ("prune", "got none"),
        ("slim", "config.slim needs ratio"),
        ("slim:0.5,method=prox_sg", "set max_macs or max_params"),
        ("slim:0.5,method=lasso", "Unknown slimming method 'lasso'"),
        ("slim:0.5,sparse_epochs=0", "sparse_epochs must be at least 1"),
        ("distill:-1", "temperature must be above 0"),
        ("distill:teacher=/none.keras", "teacher '/none.keras' does not exist"),
        ("cluster:1", "num_clusters must be at least 2, got 1"),
        ("sparsify cluster:2", "num_clusters must be at least 3, got 2"),
        ("sparsify:1.5", "sparsity must be in (0, 1)"),
        ("sparsify:method=3:4", "Unknown sparsity method"),
        ("quantize:keep=zeroes", "Did you mean 'zeros'?"),
        ("quantize width:0.5", "must be the last one"),
        ("width:0.5 prune:1.5", "1.5"),
    ],
)
def test_wrong_steps(tmp_path, capsys, steps, message):
    out_dir = tmp_path / "out"
    assert _export(out_dir, "--model=mlp", f"--steps={steps}") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tfslim.export: error: ")
    assert message in error
    assert not out_dir.exists()


def _small_network():
    inputs = tf_keras.Input((8, 8, 1))
    x = tf_keras.layers.Conv2D(16, 3, use_bias=False)(inputs)
    x = tf_keras.layers.BatchNormalization()(x)
    x = tf_keras.layers.ReLU()(x)
    x = tf_keras.layers.Conv2D(32, 3, use_bias=False)(x)
    x = tf_keras.layers.BatchNormalization()(x)
    x = tf_keras.layers.ReLU()(x)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(
        inputs, tf_keras.layers.Dense(10, activation="softmax")(x), name="small"
    )


def _digits():
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    x = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    return (x[:1200], labels[:1200]), (x[1200:], labels[1200:])


@pytest.mark.parametrize(
    "steps",
    [
        ("slim:0.5,divisor=4,sparse_epochs=2,epochs=2", "distill:epochs=2"),
        pytest.param(
            ("slim:max_params=3500,method=prox_sg,divisor=4,sparse_epochs=2,epochs=1",),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("slim:0.5,method=activation,divisor=4,epochs=1",), marks=pytest.mark.slow
        ),
        pytest.param(
            ("slim:0.5,method=bayesian,divisor=4,sparse_epochs=2,epochs=1",),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["slimming", "prox_sg", "activation", "bayesian"],
)
def test_slim_leaves_half_of_the_channels(tmp_path, steps):
    train, test = _digits()
    model = _small_network()
    config = config_lib.default_config()
    config_lib.merge(
        config,
        {
            "steps": steps,
            "training": {"epochs": 4, "learning_rate": 0.01},
            "quantization": {"recipes": ("float32",)},
            "benchmark": {"runners": ()},
        },
    )
    result = tfslim.export_model(
        model,
        out_dir=tmp_path / "out",
        config=config,
        train_data=train,
        validation_data=test,
        eval_data=test,
        task="classification",
    )
    slimmed = result["slimming"][0]
    assert slimmed["params"][1] < 0.75 * slimmed["params"][0]
    assert result["model"]["params"] == slimmed["params"][1]
    assert "Training within: " in (tmp_path / "out" / "report.md").read_text()
    file = tflite.read((tmp_path / "out/float32.tflite").read_bytes())
    widths = [t.shape[0] for t in file.tensors if len(t.shape) == 4 and t.is_constant]
    assert sum(widths) <= 0.75 * 48


@pytest.mark.slow
def test_sparsify_and_quantize_keep_the_zeros_in_the_file(tmp_path):
    train, test = _digits()
    config = config_lib.default_config()
    config_lib.merge(
        config,
        {
            "steps": ("sparsify:0.75,epochs=2", "quantize:epochs=2"),
            "training": {"epochs": 4, "learning_rate": 0.01},
            "quantization": {"recipes": ("float32", "int8")},
            "benchmark": {"runners": ()},
        },
    )
    result = tfslim.export_model(
        _small_network(),
        out_dir=tmp_path / "out",
        config=config,
        train_data=train,
        eval_data=test,
        task="classification",
    )
    assert [v["name"] for v in result["variants"]] == ["float32", "int8", "int8_qat"]
    assert "zeros" in result["slimming"][1]["step"]
    for variant in result["variants"]:
        file = tflite.read((tmp_path / "out" / variant["file"]).read_bytes())
        kernel = next(
            t.data for t in file.tensors if t.shape == (32, 3, 3, 16) and t.is_constant
        )
        assert np.mean(kernel == 0) >= 0.74, variant["name"]
