"""`python -m tfslim.quantize` from end to end, in this process."""

import json

import numpy as np
import pytest
from small_models import convert

from tfslim import quantize, tflite


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small network trained on digits, as a stranger's .tflite."""
    import tf_keras
    from tf_keras import layers

    from tfslim import data, preprocessing

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(16, 3, activation="relu", name="second")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="softmax", name="answer")(x)
    model = tf_keras.Model(inputs, x)
    model.compile("adam", "sparse_categorical_crossentropy")
    train = data.load("digits").train
    prepare = preprocessing.preset("unit", (8, 8, 1))
    x_train = prepare.apply(train.inputs(np.arange(len(train))))
    model.fit(x_train, train.targets, epochs=5, verbose=0)
    fixed = tf_keras.Input((8, 8, 1), batch_size=1)
    path = tmp_path_factory.mktemp("model") / "net.tflite"
    path.write_bytes(convert(tf_keras.Model(fixed, model(fixed))))
    return path


def run(*arguments):
    return quantize.main(["tfslim.quantize", *map(str, arguments)])


COMMON = ("--data=digits", "--preprocessing=unit", "--eval_samples=200")


def test_it_quantizes_a_strangers_file(digits, tmp_path, capsys):
    out = tmp_path / "net.tflite"
    assert run(digits, *COMMON, f"--out={out}") == 0
    assert tflite.read(out).is_quantized
    report = json.loads((tmp_path / "net.json").read_text())
    before, after = report["files"]
    assert after["size_bytes"] == len(out.read_bytes()) < before["size_bytes"]
    assert after["top-1 agreement"] >= 0.98
    assert before["accuracy"] > 0.8
    assert {t["method"] for t in report["trials"]} >= {"minmax", "kl", "mse"}
    shown = capsys.readouterr().out
    assert "dB on held-out" in shown and str(out) in shown

    again = tmp_path / "again.tflite"
    ranges = tmp_path / "net.ranges.json"
    assert run(digits, *COMMON, f"--out={again}", f"--ranges={ranges}") == 0
    assert again.read_bytes() == out.read_bytes()


def test_without_data(digits, tmp_path):
    out = tmp_path / "a.tflite"
    assert run(f"--model={digits}", "--recipe=float16", f"--out={out}") == 0
    assert len(out.read_bytes()) < 0.7 * len(digits.read_bytes())


def test_max_drop_returns_layers_to_float(digits, tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.tflite"
    # A drop of -100 points cannot be met: every layer is tried.
    code = run(digits, *COMMON, "--max_drop=-100", f"--out={out}")
    assert code == 1
    assert "cannot be met" in capsys.readouterr().err
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["fallback"][0]["layer"] == ""
    assert len(report["fallback"]) == len(report["sensitivity"]) + 1 > 3
    assert all(s["latency_us"] > 0 for s in report["fallback"])
    assert run(digits, *COMMON, "--max_drop=5", f"--out={out}", "--overwrite") == 0
    assert "fallback" not in json.loads((tmp_path / "a.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No model is given"),
        (("nosuch.tflite",), "Cannot read 'nosuch.tflite'"),
        (("MODEL", "--recipe=int9"), "Did you mean 'int8'"),
        (("MODEL", "--calibration=lk"), "Unknown calibration 'lk'"),
        (("MODEL", "--data=digits"), "Name it with --preprocessing"),
        (("MODEL",), "needs to see some"),
        (("MODEL", "--out=a.txt"), "must end with .tflite"),
        (("MODEL", "--out=MODEL"), "is the model itself"),
        (("MODEL", *COMMON, "--layers=first"), "has no recipe"),
        (("MODEL", *COMMON, "--layers=frist=float32"), "Did you mean 'first'"),
        (("MODEL", "--max_drop=1"), "--max_drop needs --data"),
        (("MODEL", "--recipe=float16", "--max_drop=1"), "Use --recipe=int8"),
        (("MODEL", "--nosuch=1"), "Unknown flag"),
    ],
)
def test_a_wrong_command_is_one_line(digits, tmp_path, capsys, arguments, message):
    words = [str(a).replace("MODEL", str(digits)) for a in arguments]
    if arguments and not any("--out" in word for word in words):
        words.append(f"--out={tmp_path / 'x.tflite'}")
    assert run(*words) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert len([line for line in error.splitlines() if "error:" in line]) == 1
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept(digits, tmp_path, capsys):
    out = tmp_path / "a.tflite"
    out.write_bytes(b"mine")
    assert run(digits, "--recipe=float16", f"--out={out}") == 2
    assert "exists. Pass --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
