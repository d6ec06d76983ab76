"""The main job from the command line and from Python, on small models."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tf_keras
from PIL import Image

import tfslim
from tfslim import apps, errors, export, models, tasks, tflite
from tfslim import config as config_lib
from tfslim.data import load
from tfslim.tflite import metadata

SCHEMA = Path(tfslim.__file__).parent / "report" / "schema.json"


def _export(out_dir, *arguments):
    return export.main(["export", f"--out={out_dir}", *arguments])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One run of the command, for the tests that look at what it wrote."""
    out_dir = tmp_path_factory.mktemp("export") / "a b"
    code = _export(
        out_dir,
        "--model=mlp:hidden=(64,)",
        "--data=digits",
        "--epochs=3",
        "--config.benchmark.num_runs=10",
        "--verify=compiled",
    )
    assert code == 0
    return out_dir


def test_files_are_complete_and_agree(exported):
    names = {path.name for path in exported.iterdir()}
    recipes = {"float32", "float16", "dynamic_int8", "int8"}
    assert names == {f"{recipe}.tflite" for recipe in recipes} | {
        "model.keras",
        "config.json",
        "result.json",
        "report.md",
        "report.html",
        "report_extras.json",
        "ranges.json",
        "manifest.json",
        "labels.txt",
        # MediaPipe takes no grey images.
        "app_python.py",
        "app_compiled.kt",
    }
    digits = "".join(f"{number}\n" for number in range(10))
    assert (exported / "labels.txt").read_text() == digits
    result = json.loads((exported / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert (exported / "report.html").stat().st_size < 3_000_000
    extras = json.loads((exported / "report_extras.json").read_text())
    assert len(extras["samples"]) == 8
    for row in result["variants"]:
        change, count = row["change"], result["data"]["test"]
        assert change["against"] == "Keras" and change["num_examples"] == count
        assert change["new"] == pytest.approx(row["metric"])
        assert change["base"] == pytest.approx(result["keras_metric"])
        assert (change["gained"] - change["lost"]) / count == pytest.approx(
            row["metric"] - result["keras_metric"]
        )
    assert {row["name"] for row in result["variants"]} == recipes
    for row in result["variants"]:
        content = (exported / row["file"]).read_bytes()
        assert row["size_bytes"] == len(content)
        assert row["benchmark"]["latency"]["num_runs"] == 10
        assert row["name"] in (exported / "report.md").read_text()
    # 64 pixels, 64 hidden units, 10 classes, with biases.
    assert result["model"]["params"] == 64 * 64 + 64 + 64 * 10 + 10
    assert result["model"]["macs"] == 64 * 64 + 64 * 10


def test_files_are_proved_in_the_consumers_asked_for(exported):
    result = json.loads((exported / "result.json").read_text())
    assert set(result["consumers"]) == {v["name"] for v in result["variants"]}
    for rows in result["consumers"].values():
        assert rows["compiled"]["status"] == "right"
        assert set(rows["compiled"]["against"]) == {"interpreter", "keras"}
    assert "In the programs that run it" in (exported / "report.md").read_text()


def test_an_absent_consumer_is_found_out_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFSLIM_CONSUMERS", str(tmp_path / "none"))
    assert _export(tmp_path / "out", "--model=mlp", "--verify=mediapipe") == 2
    assert "--setup=mediapipe" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_python_code_of_an_export_runs(exported, tmp_path):
    test = load("digits", seed=0).test
    pixels = np.asarray(test.inputs([0]))[0, ..., 0].astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    done = subprocess.run(
        [sys.executable, str(exported / "app_python.py"), str(tmp_path / "digit.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    best = done.stdout.splitlines()[1].split()
    content = (exported / "int8.tflite").read_bytes()
    x = apps.read_about(content).preprocessing.apply(test.inputs([0]))
    (scores,) = tflite.run(content, x).values()
    assert best == [f"{scores.max():.4f}", str(scores.argmax())]


def test_reported_accuracy_is_that_of_the_file(exported):
    """Repeats what an app does: the metadata's preprocessing, then the file."""
    result = json.loads((exported / "result.json").read_text())
    test = load("digits", seed=0).test
    content = (exported / "int8.tflite").read_bytes()
    about = metadata.get_json(content)
    recipe = about["preprocessing"]
    images = np.asarray(test.inputs(range(len(test))), np.float32)
    x = (images * recipe["scale"] - recipe["mean"]) / recipe["std"]
    runner = tflite.Runner(content)
    answers = [
        next(iter(runner(image[None].astype(np.float32)).values())).argmax()
        for image in x
    ]
    accuracy = np.mean(np.array(answers) == test.targets)
    row = next(row for row in result["variants"] if row["name"] == "int8")
    assert row["metric"] == pytest.approx(accuracy)
    assert accuracy > 0.5
    assert about["labels"] == [str(digit) for digit in range(10)]


def test_model_keras_opens_without_tfslim(exported):
    code = (
        "import sys, keras, numpy as np;"
        f"m = keras.saving.load_model({str(exported / 'model.keras')!r});"
        "m(np.zeros((1, *m.input_shape[1:]), 'float32'));"
        "sys.exit(1 if any(n.startswith('tfslim') for n in sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_resolved_config_repeats_the_run(exported):
    config = config_lib.load(str(exported / "config.json"))
    assert config.model.options.hidden == (64,) or list(
        config.model.options.hidden
    ) == [64]
    assert config.training.epochs == 3


def test_existing_output_is_kept_without_overwrite(exported, capsys):
    before = (exported / "result.json").read_bytes()
    assert _export(exported, "--model=mlp") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (exported / "result.json").read_bytes() == before


def test_overwrite_removes_stale_variants_and_nothing_else(tmp_path):
    quick = ("--model=mlp:hidden=(8,)", "--epochs=1", "--config.benchmark.num_runs=2")
    assert _export(tmp_path, *quick, "--recipe=float32,int8") == 0
    (tmp_path / "mine.tflite").write_bytes(b"the user's")
    assert _export(tmp_path, *quick, "--recipe=float16", "--overwrite") == 0
    names = {path.name for path in tmp_path.glob("*.tflite")}
    assert names == {"float16.tflite", "mine.tflite"}


def test_integer_io_is_of_the_int8_file(tmp_path):
    quick = ("--model=mlp:hidden=(8,)", "--epochs=1", "--config.benchmark.num_runs=2")
    io = "--config.quantization.io=uint8"
    assert _export(tmp_path, *quick, io, "--recipe=dynamic_int8,int8") == 0
    found = {
        name: {t.dtype for t in (*content.inputs, *content.outputs)}
        for name in ("dynamic_int8", "int8")
        for content in [tflite.read(tmp_path / f"{name}.tflite")]
    }
    assert found == {"dynamic_int8": {"float32"}, "int8": {"uint8"}}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model=resnet19", "Did you mean 'resnet18'?"),
        ("--model=mlp:hiden=3", "Did you mean 'hidden'?"),
        ("--recipe=int9", "Did you mean 'int8'?"),
        ("--data=digit", "Did you mean 'digits'?"),
        ("--config.task=clasification", "Did you mean 'classification'?"),
        ("--config.quantization.calibration=minmx", "Did you mean 'minmax'?"),
        ("--config.quantization.io=int9", "int8"),
        ("--config.quantization.io=int8 --recipe=dynamic_int8", "Add 'int8'"),
        ("--config.training.strategy=miror", "Did you mean 'mirrored'?"),
        ("--config.benchmark.num_threads=0", "num_threads must be at least 1"),
        ("--config.model.save_format=h5", "Unknown config.model.save_format 'h5'"),
        ("--model=mobilenet_v2 --config.model.input_shape=(8,8,3)", "at least 32x32"),
        ("--config.training.optimizer=adan", "Did you mean 'adam'?"),
        ("--config.training.augment=flap", "Did you mean 'flip'?"),
        ("--epochs=-1", "epochs must be"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    tmp_path, capsys, argument, message
):
    out_dir = tmp_path / "out"
    assert _export(out_dir, "--model=mlp", *argument.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tfslim.export: error: ")
    assert message in error
    assert not out_dir.exists()


def test_out_dir_that_cannot_be_made_is_told_before_the_training(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert _export(tmp_path / "file" / "out", "--model=mlp") == 2
    error = capsys.readouterr().err
    assert "cannot be written to" in error
    assert "training" not in error


@pytest.mark.parametrize(
    "name", ["autoencoder", pytest.param("mobilenet_v3_small", marks=pytest.mark.slow)]
)
def test_other_tasks_and_models(tmp_path, name):
    code = _export(
        tmp_path,
        f"--model={name}",
        "--data=digits",
        "--epochs=1",
        "--recipe=float32,int8",
        "--config.benchmark.num_runs=2",
    )
    assert code == 0
    result = json.loads((tmp_path / "result.json").read_text())
    float32, int8 = result["variants"]
    assert float32["parity"]["relative_error"] <= 1e-4
    assert int8["size_bytes"] < float32["size_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [n for n in models.MODELS.names() if models.MODELS.get(n).task == "classification"],
)
def test_every_classifier(tmp_path, name):
    arguments = f"--model={name}", "--data=digits", "--epochs=1"
    assert _export(tmp_path, *arguments, "--recipe=float32,int8") == 0


def _tiny(seed=0):
    tf_keras.utils.set_random_seed(seed)
    inputs = tf_keras.Input((4,), name="x")
    hidden = tf_keras.layers.Dense(16, activation="relu")(inputs)
    return tf_keras.Model(inputs, tf_keras.layers.Dense(1)(hidden), name="tiny")


def _sums(number=256, seed=0):
    x = np.random.default_rng(seed).uniform(size=(number, 4)).astype(np.float32)
    return x, x.sum(axis=1, keepdims=True)


def _quick_config(**training):
    config = config_lib.default_config()
    config_lib.merge(
        config,
        {
            "quantization": {"recipes": ("int8",)},
            "benchmark": {"num_runs": 2},
            "training": training,
        },
    )
    return config


def test_users_model_data_task_and_functions(tmp_path):
    task = tasks.Task(
        name="sum",
        loss="mean_absolute_error",
        target=lambda x, y: y,
        metric_name="worst error",
        metric=lambda outputs, targets: float(np.abs(outputs - targets).max()),
        higher_is_better=False,
        agreement_name="closeness",
        agreement=lambda a, b: 1 - float(np.abs(a - b).max()),
    )
    called = []

    def train_fn(model):
        called.append("train")
        model.compile("adam", "mae")
        model.fit(*_sums(), epochs=2, verbose=0)

    def eval_fn(predict):
        called.append("eval")
        x, y = _sums(seed=1)
        return float(np.abs(predict(x)[0] - y).mean())

    result = tfslim.export_model(
        _tiny(),
        out_dir=tmp_path / "own",
        config=_quick_config(),
        train_data=_sums(),
        eval_data=_sums(seed=1),
        task=task,
        train_fn=train_fn,
        eval_fn=eval_fn,
    )
    # Keras, the float file and the INT8 file.
    assert called == ["train", "eval", "eval", "eval"]
    assert result["task"]["metric"] == "worst error"
    assert result["training"]["by"] == "train_fn"


def test_users_tf_data_trains_by_our_fit(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(_sums()).batch(32)
    result = tfslim.export_model(
        _tiny(),
        out_dir=tmp_path / "own",
        config=_quick_config(epochs=20, learning_rate=0.01),
        train_data=data,
        validation_data=_sums(seed=1),
        task="regression",
    )
    assert result["keras_metric"] < 0.2
    assert result["variants"][0]["metric"] < 0.2


def test_model_without_data_gets_parity_but_no_int8(tmp_path):
    config = _quick_config()
    config.quantization.recipes = ("float32", "float16")
    result = tfslim.export_model(
        _tiny(), out_dir=tmp_path / "a", config=config, task="regression"
    )
    assert result["keras_metric"] is None
    assert result["variants"][0]["parity"]["num_samples"] == 64
    with pytest.raises(errors.ConfigError, match="samples"):
        tfslim.export_model(
            _tiny(),
            out_dir=tmp_path / "b",
            config=_quick_config(),
            task="regression",
        )
