"""`--preprocess=inside`, and uint8 inputs: the files take pixels as they are."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tf_keras
from PIL import Image

import tfslim
from tfslim import apps, commands, consumers, errors, tflite
from tfslim.consumers import samples
from tfslim.preprocessing import preset
from tfslim.tflite import standard_metadata

SHAPE = (24, 24, 3)
PIXELS = samples.pictures(np.random.default_rng(1), (150, *SHAPE))


@pytest.fixture(scope="module")
def model():
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(5)
    x = inputs = tf_keras.Input(SHAPE, name="image")
    x = layers.Conv2D(16, 3, 2, "same", activation="relu")(x)
    x = layers.Conv2D(32, 3, 2, "same", activation="relu")(x)
    x = layers.Flatten()(layers.AveragePooling2D(3)(x))
    logits = layers.Dense(5, kernel_initializer="he_uniform")(x)
    model = tf_keras.Model(inputs, layers.Softmax(name="scores")(logits))
    part = tf_keras.Model(inputs, logits)
    found = part.predict(preset("torch", SHAPE).apply(PIXELS), verbose=0)
    model.layers[-2].bias.assign(-np.median(found, axis=0))
    return model


def _export(model, out, *, name="torch", eval_fn=None, **sections):
    x = preset(name, SHAPE).apply(PIXELS)
    answers = model.predict(x, verbose=0).argmax(1)
    config = {
        "model": {"preprocessing": name},
        "benchmark": {"runners": ()},
        "quantization": {"recipes": ("float32", "int8"), "rounding": "nearest"},
    }
    for section, fields in sections.items():
        config[section] = config.get(section, {}) | fields
    return tfslim.export_model(
        model,
        out_dir=out,
        config=config,
        train_data=(x[:50], answers[:50]),
        eval_data=(x[50:], answers[50:]),
        eval_fn=eval_fn,
    )


def _answers(content):
    """What an app gets that passes pixels as they are."""
    model = tflite.read(content)
    rows = []
    for picture in PIXELS[50:]:
        stored = picture[None].astype(model.inputs[0].dtype)
        (row,) = tflite.Runner(content)(
            {next(iter(model.input_names)): stored}
        ).values()
        rows.append(row[0])
    return np.array(rows).argmax(1)


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("torch", {"convert": {"preprocess": "inside"}}),
        ("torch", {"quantization": {"io": "uint8"}}),
        ("caffe", {"quantization": {"io": "uint8"}}),
        ("raw", {"quantization": {"io": "uint8"}}),
    ],
)
def test_files_take_pixels(model, tmp_path, name, sections):
    result = _export(model, tmp_path, name=name, **sections)
    x = preset(name, SHAPE).apply(PIXELS[50:])
    expected = model.predict(x, verbose=0).argmax(1)
    saved = tfslim.load_model(tmp_path / "model.keras")
    kept = saved.predict(x, verbose=0).argmax(1)
    np.testing.assert_array_equal(kept, expected)
    for row in result["variants"]:
        content = (tmp_path / row["file"]).read_bytes()
        same = (_answers(content) == expected).mean()
        assert same == 1.0 if row["name"] == "float32" else same >= 0.95
        assert row["metric"] == pytest.approx(1.0, abs=0.05)
        standard = standard_metadata.get(content)
        assert (standard.mean, standard.std) == ((0.0,), (1.0,))
        assert apps.read_about(content).preprocessing == preset("raw", SHAPE)
    is_uint8 = "quantization" in sections
    entry = tflite.read((tmp_path / "int8.tflite").read_bytes()).inputs[0]
    if is_uint8:
        assert entry.dtype == "uint8"
        assert entry.quantization.scale[0] == pytest.approx(1.0)
        assert entry.quantization.zero_point[0] == 0
    assert result["model"]["preprocessing"] == preset(name, SHAPE).to_json()
    assert result["model"]["file_preprocessing"] == preset("raw", SHAPE).to_json()


def test_one_pair_stays_outside_and_uint8_is_the_pixel(model, tmp_path):
    """Samples are dark: what calibration saw is not what a pixel can be."""
    x = preset("symmetric", SHAPE).apply(PIXELS // 2)
    tfslim.export_model(
        model,
        out_dir=tmp_path,
        config={
            "model": {"preprocessing": "symmetric"},
            "benchmark": {"runners": ()},
            "quantization": {"recipes": ("int8",), "io": "uint8"},
        },
        train_data=(x, np.zeros(len(x), int)),
    )
    content = (tmp_path / "int8.tflite").read_bytes()
    entry = tflite.read(content).inputs[0].quantization
    assert entry.scale[0] == pytest.approx(2 / 255)
    assert abs(entry.zero_point[0] - 127.5) <= 0.5
    assert standard_metadata.get(content).mean == pytest.approx((127.5,))


def test_users_own_measure_gets_what_the_model_takes(model, tmp_path):
    x = preset("torch", SHAPE).apply(PIXELS[50:])
    expected = model.predict(x, verbose=0)

    def error(predict):
        return float(np.abs(predict(x)[0] - expected).max())

    inside = {"preprocess": "inside"}
    result = _export(model, tmp_path, eval_fn=error, convert=inside)
    assert result["keras_metric"] < 1e-4
    assert result["variants"][0]["metric"] < 1e-4


@pytest.mark.slow
def test_mediapipe_answers_as_keras_in_all_four_files(model, tmp_path):
    reason = consumers.CONSUMERS.get("mediapipe").missing()
    if reason:
        pytest.skip(reason)
    result = _export(
        model,
        tmp_path,
        quantization={"io": "uint8", "recipes": None},
        verify={"consumers": ("mediapipe",)},
    )
    assert len(result["consumers"]) == 4
    for variant, rows in result["consumers"].items():
        row = rows["mediapipe"]
        assert row["status"] == "right", (variant, row)
        least = 1.0 if variant.startswith("float") else 0.98
        assert row["against"]["keras"]["agreement"] >= least


def test_app_code_takes_a_photo(model, tmp_path):
    _export(model, tmp_path, quantization={"io": "uint8", "recipes": ("int8",)})
    Image.fromarray(PIXELS[0]).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "app_python.py", "photo.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MEAN, STD = [0.0], [1.0]" in (tmp_path / "app_python.py").read_text()


def test_photos_of_other_sizes_are_pictures_for_mediapipe(model, tmp_path):
    """Resized in float they are no 8-bit images, which MediaPipe would not take."""
    reason = consumers.CONSUMERS.get("mediapipe").missing()
    if reason:
        pytest.skip(reason)
    for label in range(5):
        folder = tmp_path / "photos" / f"class{label}"
        folder.mkdir(parents=True)
        for index in range(12):
            photo = np.kron(PIXELS[12 * label + index], np.ones((2, 3, 1), np.uint8))
            Image.fromarray(photo[:41, :67]).save(folder / f"{index}.png")
    model.save(tmp_path / "given.keras")
    code = commands.main(
        [
            *("tfslim", "export", str(tmp_path / "given.keras"), "--benchmark="),
            *(f"--data=folder:{tmp_path / 'photos'}", "--preprocessing=symmetric"),
            *(f"--out={tmp_path / 'out'}", "--verify=mediapipe", "--recipe=float32"),
        ]
    )
    assert code == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    row = result["consumers"]["float32"]["mediapipe"]
    assert row["status"] == "right", row
    assert row["against"]["keras"]["max_abs_error"] < 1e-3


def test_a_file_of_others_takes_pixels(model, tmp_path):
    given = tmp_path / "given.tflite"
    given.write_bytes(tfslim.convert_model(model).tflite)
    np.savez(tmp_path / "data.npz", x=PIXELS, y=np.arange(150) % 5)
    code = commands.main(
        [
            *("tfslim", "export", str(given), f"--data=npz:{tmp_path / 'data.npz'}"),
            *("--preprocessing=torch", "--io=uint8", "--recipe=float32,int8"),
            *(f"--out={tmp_path / 'out'}", "--benchmark="),
        ]
    )
    assert code == 0
    x = preset("torch", SHAPE).apply(PIXELS[50:])
    expected = model.predict(x, verbose=0).argmax(1)
    for name, least in (("float32", 1.0), ("int8", 0.95)):
        content = (tmp_path / "out" / f"{name}.tflite").read_bytes()
        assert (_answers(content) == expected).mean() >= least


def test_what_cannot_be_is_said_before_any_work(model, tmp_path):
    x = preset("torch", SHAPE).apply(PIXELS)
    inside = {"convert": {"preprocess": "inside"}}
    with pytest.raises(errors.ConfigError, match="with data of your own name it"):
        tfslim.export_model(model, out_dir=tmp_path, config=inside, train_data=x)
    dense = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(4,))])
    config = inside | {"model": {"preprocessing": "unit"}}
    with pytest.raises(errors.ConfigError, match="inside"):
        tfslim.export_model(
            dense, out_dir=tmp_path, config=config, train_data=np.ones((4, 4))
        )
    with pytest.raises(errors.ConfigError, match="inside"):
        tfslim.export_model(
            model, out_dir=tmp_path, config={"convert": {"preprocess": "outsid"}}
        )
    assert not list(tmp_path.iterdir())
