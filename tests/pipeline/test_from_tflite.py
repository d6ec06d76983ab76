"""An export that begins with a `.tflite` of someone else."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import commands, errors, evaluation, manifest
from tfslim.data import load


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A float .tflite of a small network that knows digits."""
    images, labels = load("digits").train.inputs(range(800)), load("digits").train
    x = np.float32(images) / 255
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential(
        [
            tf_keras.Input(x.shape[1:]),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(32, activation="relu"),
            tf_keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(tf_keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, labels.targets[:800], epochs=10, verbose=0)
    path = tmp_path_factory.mktemp("given") / "given.tflite"
    path.write_bytes(tfslim.convert_model(model).tflite)
    return path


def test_it_is_quantized_verified_timed_and_reported(file, tmp_path):
    out = tmp_path / "out"
    code = commands.main(
        [
            *("tfslim", "export", str(file), "--data=digits", "--preprocessing=unit"),
            *(f"--out={out}", "--config.benchmark.num_runs=2"),
        ]
    )
    assert code == 0
    manifest.verify(out)
    result = json.loads((out / "result.json").read_text())
    rows = {row["name"]: row for row in result["variants"]}
    assert set(rows) == {"float32", "float16", "dynamic_int8", "int8"}
    assert (out / "float32.tflite").read_bytes() == file.read_bytes()
    test = load("digits").test
    x = np.float32(test.inputs(range(len(test)))) / 255
    for name, row in rows.items():
        [outputs] = evaluation.Predictor((out / f"{name}.tflite").read_bytes())(x)
        right = np.mean(outputs.argmax(axis=1) == test.targets)
        assert row["metric"] == pytest.approx(right)
        assert row["benchmark"]["latency"]["p50"] > 0
        assert row["change"]["new"] == pytest.approx(right)
        assert row["change"]["low"] <= row["change"]["change"] <= row["change"]["high"]
        assert name in (out / "report.md").read_text()
    assert rows["int8"]["size_bytes"] < 0.6 * rows["float32"]["size_bytes"]
    # 64 pixels, 32 hidden units, 10 classes, with biases; shapes are integers.
    assert result["model"]["params"] == 65 * 32 + 33 * 10
    # The ranges are those that another run takes.
    assert (out / "ranges.json").exists()


def test_without_data_it_is_compared_on_random_inputs(file, tmp_path):
    config = {"quantization": {"recipes": ("float16",)}, "benchmark": {"runners": ()}}
    result = tfslim.export_model(str(file), out_dir=tmp_path / "out", config=config)
    [row] = result["variants"]
    assert row["metric"] is None
    assert row["parity"]["sqnr_db"] > 40


@pytest.mark.parametrize("spec", ["digits", None])
def test_its_files_are_run_in_the_consumers_that_are_asked_for(file, tmp_path, spec):
    config = {
        "quantization": {"recipes": ("float16",)},
        "benchmark": {"runners": ()},
        "verify": {"consumers": ("compiled",)},
        "data": {"spec": spec},
        "model": {"preprocessing": "unit" if spec else "auto"},
    }
    result = tfslim.export_model(str(file), out_dir=tmp_path / "out", config=config)
    row = result["consumers"]["float16"]["compiled"]
    assert row["status"] == "right"
    # Half precision in the weights is no reason for another class.
    assert set(row["against"]) == {"interpreter"} | ({"given"} if spec else set())
    assert "compiled" in (tmp_path / "out" / "report.md").read_text()


def test_a_consumer_that_does_not_exist_is_refused_first(file, tmp_path):
    config = {
        "verify": {"consumers": ("compield",)},
        "quantization": {"recipes": ("float16",)},
    }
    with pytest.raises(errors.ConfigError, match="compiled"):
        tfslim.export_model(str(file), out_dir=tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--recipe=int8", "There is no data for"),
        ("--data=digits --epochs=3", "cannot be trained or cut"),
        ("--data=digits --prune=channels:0.5", "cannot be trained or cut"),
        ("--data=digits --recipe=float16 --max_drop=1", "Add 'int8'"),
        ("--data=digits", "--preprocessing"),
        ("--data=digits --recipe=int9", "Did you mean 'int8'?"),
    ],
)
def test_what_is_not_for_a_file(file, tmp_path, capsys, flags, message):
    arguments = ["tfslim", "export", str(file), f"--out={tmp_path}/out"]
    assert commands.main([*arguments, *flags.split()]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"no flatbuffer")
    config = {"quantization": {"recipes": ("float16",)}}
    with pytest.raises(errors.TfslimError):
        tfslim.export_model(
            str(tmp_path / "a.tflite"), out_dir=tmp_path / "out", config=config
        )


def test_it_needs_no_tensorflow(file, tmp_path):
    arguments = ["tfslim", "export", str(file), f"--out={tmp_path}/out"]
    arguments += ["--recipe=float16", "--benchmark="]
    code = (
        f"import sys; from tfslim import commands; code = commands.main({arguments});"
        "sys.exit(code or 'tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
