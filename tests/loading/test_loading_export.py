"""`--model` takes whatever opens; an opened model keeps its weights unless asked."""

import json

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
import tfslim.preprocessing
from tfslim import config as config_lib
from tfslim import data, errors, export

KERAS = {"tf_keras": tf_keras, "keras": keras}
_FAST = ("--data=digits", "--quantize=float32", "--config.benchmark.num_runs=2")


@pytest.fixture(scope="module")
def digits():
    """Digits as images of 0..255, with their classes."""
    train = data.load("digits", seed=0).train
    x = np.asarray(train.inputs(range(len(train))), np.float32)
    return x, train.targets


def _classifier(package, scale, x, y):
    """A small classifier of digits that takes x * scale - 1."""
    package.utils.set_random_seed(0)
    layers = package.layers
    model = package.Sequential(
        [
            package.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x * scale - 1, y, epochs=4, verbose=0)
    return model


def _run(tmp_path, model, *arguments):
    out_dir = tmp_path / "out"
    code = export.main(
        ["export", f"--model={model}", f"--out_dir={out_dir}", *_FAST, *arguments]
    )
    if code:
        return code, None
    return code, json.loads((out_dir / "result.json").read_text())


@pytest.mark.parametrize(
    ("package", "name"),
    [("tf_keras", "m.h5"), ("tf_keras", "folder"), ("keras", "m.keras")],
)
def test_weights_stay_and_preprocessing_is_found(tmp_path, digits, package, name):
    model = _classifier(KERAS[package], 1 / 127.5, *digits)
    model.save(tmp_path / name)
    code, result = _run(tmp_path, tmp_path / name)
    assert code == 0
    assert result["training"] is None
    assert result["config"]["training"]["epochs"] == 0
    # What was saved is what is exported, bit for bit.
    saved = keras.models.load_model(tmp_path / "out" / "model.keras")
    for ours, own in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, own)
    wanted = tfslim.preprocessing.preset("symmetric", (8, 8, 1))
    assert result["model"]["preprocessing"] == wanted.to_json()
    (note,) = result["data"]["notes"]
    assert "guessed" in note
    assert note in (tmp_path / "out" / "report.md").read_text()
    test = data.load("digits", seed=0).test
    x = wanted.apply(test.inputs(range(len(test))))
    accuracy = np.mean(np.asarray(model(x)).argmax(-1) == test.targets)
    assert result["variants"][0]["metric"] == pytest.approx(accuracy)
    assert accuracy > 0.7


def test_trained_if_asked(tmp_path, digits):
    _classifier(tf_keras, 1 / 127.5, *digits).save(tmp_path / "m.keras")
    code, result = _run(
        tmp_path, tmp_path / "m.keras", "--epochs=1", "--config.model.preprocessing=raw"
    )
    assert code == 0
    assert result["training"]["epochs"] == 1
    assert result["model"]["preprocessing"]["scale"] == 1.0


def test_other_classes(tmp_path, capsys):
    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 1)),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(tmp_path / "m.keras")
    code, _ = _run(tmp_path, tmp_path / "m.keras", "--epochs=1")
    assert code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "'m.keras' has 3 outputs, digits has 10 classes" in line
    assert _run(tmp_path, tmp_path / "m.keras")[0] == 2
    assert "does not say how it takes its pixels" in capsys.readouterr().err
    code, result = _run(
        tmp_path, tmp_path / "m.keras", "--config.model.preprocessing=unit"
    )
    assert code == 0
    assert result["keras_metric"] is None
    assert result["variants"][0]["metric"] is None
    assert "has 3 outputs" in result["data"]["notes"][1]


def test_autoencoder(tmp_path):
    layers = tf_keras.layers
    x = tf_keras.Input((8, 8, 1))
    y = layers.Conv2D(1, 3, padding="same")(layers.Rescaling(1 / 255)(x))
    tf_keras.Model(x, y).save(tmp_path / "m.h5")
    code, result = _run(tmp_path, tmp_path / "m.h5")
    assert code == 0
    assert result["task"]["name"] == "reconstruction"
    assert "scales pixels itself" in result["data"]["notes"][0]


@pytest.mark.slow
def test_function_and_application(tmp_path, monkeypatch):
    (tmp_path / "user_export_models.py").write_text(
        "import keras\n"
        "def build(width):\n"
        "    x = keras.Input((8, 8, 1))\n"
        "    y = keras.layers.Rescaling(1 / 255)(x)\n"
        "    y = keras.layers.Dense(width)(keras.layers.Flatten()(y))\n"
        "    return keras.Model(x, keras.layers.Dense(10, 'softmax')(y))\n"
    )
    monkeypatch.chdir(tmp_path)
    code, result = _run(tmp_path, "user_export_models:build:width=6")
    assert code == 0
    assert result["model"]["params"] == 64 * 6 + 6 + 6 * 10 + 10
    code, result = _run(
        tmp_path,
        "tf_keras.applications.MobileNetV2:weights=None,alpha=0.35,classes=10,"
        "input_shape=(32,32,3)",
        "--overwrite",
    )
    assert code == 0
    assert result["model"]["input_shape"] == [[32, 32, 3]]
    assert "as in keras.applications" in result["data"]["notes"][0]


def test_export_of_an_export(tmp_path, digits):
    """Our own model.keras knows its preprocessing, by the result beside it."""
    _classifier(tf_keras, 1 / 127.5, *digits).save(tmp_path / "m.keras")
    assert _run(tmp_path, tmp_path / "m.keras")[0] == 0
    first = tmp_path / "first"
    (tmp_path / "out").rename(first)
    code, result = _run(tmp_path, first / "model.keras")
    assert code == 0
    assert "as in the result beside it" in result["data"]["notes"][0]
    assert result["model"]["preprocessing"]["scale"] == pytest.approx(1 / 127.5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("missing.h5", "There is no file or folder 'missing.h5'"),
        ("no_such_module:build", "cannot be imported"),
        ("keras.applications.MobileNetV9", "Did you mean"),
    ],
)
def test_wrong_model_is_one_line(tmp_path, capsys, model, message):
    assert _run(tmp_path, model)[0] == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not (tmp_path / "out").exists()


def test_unsafe_needs_its_flag(tmp_path, capsys):
    x = tf_keras.Input((8, 8, 1))
    y = tf_keras.layers.Lambda(lambda x: x / 255)(x)
    y = tf_keras.layers.Dense(10, "softmax")(tf_keras.layers.Flatten()(y))
    tf_keras.Model(x, y).save(tmp_path / "m.h5")
    assert _run(tmp_path, tmp_path / "m.h5")[0] == 2
    assert "--allow_unsafe" in capsys.readouterr().err
    assert (
        _run(
            tmp_path,
            tmp_path / "m.h5",
            "--allow_unsafe",
            "--config.model.preprocessing=raw",
            "--config.model.save_format=tf_keras",
        )[0]
        == 0
    )


def test_from_python(tmp_path, digits):
    """The user's own arrays, and the caller's config is left as it was."""
    x, y = digits
    _classifier(keras, 1 / 127.5, x, y).save(tmp_path / "m.keras")
    config = config_lib.default_config()
    config.quantization.recipes = ("float32",)
    config.benchmark.num_runs = 2
    result = tfslim.export_model(
        str(tmp_path / "m.keras"),
        out_dir=tmp_path / "out",
        config=config,
        train_data=(x / 127.5 - 1, y),
        eval_data=(x / 127.5 - 1, y),
    )
    assert result["training"] is None
    assert result["keras_metric"] > 0.7
    assert config.training.epochs is None


def test_several_inputs(tmp_path):
    a, b = keras.Input((3,)), keras.Input((3,))
    keras.Model([a, b], keras.layers.Add()([a, b])).save(tmp_path / "m.keras")
    with pytest.raises(errors.ConfigError, match="has 2 inputs"):
        config = config_lib.default_config()
        config.data.spec = "digits"
        tfslim.export_model(
            tmp_path / "m.keras", out_dir=tmp_path / "out", config=config
        )
