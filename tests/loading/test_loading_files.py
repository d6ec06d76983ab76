"""Files of every Keras open as what they were saved from."""

import json
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import errors, loading

KERAS = {"tf_keras": tf_keras, "keras": keras}


def _model(package, *, operation=True):
    """Nested, shared and branching, with an operation on tensors if it may have one."""
    layers = package.layers
    inner = package.Sequential(
        [package.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same"), layers.ReLU()]
    )
    x = package.Input((8, 8, 3), name="image")
    y = layers.Conv2D(4, 3, padding="same", activation="relu6")(x)
    y = layers.BatchNormalization()(y)
    y = layers.Add()([inner(y), inner(inner(y))])
    y = y * 2.0 if operation else layers.Rescaling(2.0)(y)
    y = layers.GlobalAveragePooling2D()(y)
    return package.Model(x, layers.Dense(5, activation="softmax")(y), name="net")


def _outputs(model, seed=0):
    x = np.random.default_rng(seed).normal(size=(3, *model.inputs[0].shape[1:]))
    return np.asarray(model(x.astype(np.float32), training=False))


def _saved(package, path):
    # Keras 3 itself does not reopen an .h5 with operations on numbers.
    operation = package is tf_keras or not str(path).endswith("h5")
    model = _model(package, operation=operation)
    model.compile("adam", "mse")
    model.save(path)
    return model


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("tf_keras", "m.keras"),
        ("keras", "m.keras"),
        ("tf_keras", "m.h5"),
        ("keras", "m.h5"),
        ("tf_keras", "m.hdf5"),
        ("tf_keras", "folder"),
    ],
)
def test_opens_as_it_was_saved(tmp_path, package, name):
    original = _saved(KERAS[package], str(tmp_path / name))
    found = tfslim.load_model(tmp_path / name)
    assert type(found).__module__.split(".")[0] == package
    np.testing.assert_array_equal(_outputs(found), _outputs(original))
    assert getattr(found, "optimizer", None) is None
    # A plain model: it saves, and opens without us.
    found.save(tmp_path / "again.keras")
    again = KERAS[package].models.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(_outputs(again), _outputs(original))


@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize("saved", ["m.keras", "m.h5"])
def test_format_is_told_by_the_content(tmp_path, package, saved):
    original = _saved(KERAS[package], str(tmp_path / saved))
    other = tmp_path / ("m.h5" if saved == "m.keras" else "m.keras")
    (tmp_path / saved).replace(other)
    np.testing.assert_array_equal(
        _outputs(tfslim.load_model(other)), _outputs(original)
    )


def test_keras3_operations(tmp_path):
    x = keras.Input((4, 6))
    y = keras.ops.concatenate([keras.ops.relu(x), keras.ops.transpose(x, (0, 1, 2))])
    y = keras.ops.mean(keras.ops.clip(y, -1.0, 1.0), axis=-1)
    original = keras.Model(x, y)
    original.save(tmp_path / "ops.keras")
    found = tfslim.load_model(tmp_path / "ops.keras")
    np.testing.assert_array_equal(_outputs(found), _outputs(original))


def test_h5_that_keras3_does_not_reopen(tmp_path):
    _model(keras, operation=True).save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="tensors"):
        keras.models.load_model(tmp_path / "m.h5")
    with pytest.raises(errors.DataError, match="save it as") as error:
        tfslim.load_model(tmp_path / "m.h5")
    _one_line(error)


@pytest.mark.parametrize("package", KERAS)
def test_what_adapt_learned_comes_back(tmp_path, package):
    layers = KERAS[package].layers
    bins = layers.Discretization(num_bins=4)
    bins.adapt(np.arange(24.0).reshape(-1, 1))
    words = layers.StringLookup()
    words.adapt(np.array(["a", "b", "b"]))
    x = KERAS[package].Input((6,))
    KERAS[package].Model(x, bins(x)).save(tmp_path / "bins.keras")
    y = KERAS[package].Input((1,), dtype="string")
    KERAS[package].Model(y, words(y)).save(tmp_path / "words.keras")
    values = np.linspace(0, 24, 12).reshape(2, 6).astype(np.float32)
    found = tfslim.load_model(tmp_path / "bins.keras")
    np.testing.assert_array_equal(found(values), bins(values))
    text = tf.constant([["a"], ["b"], ["c"]])
    # In the order of how often they came; 0 stands for all others.
    found = tfslim.load_model(tmp_path / "words.keras")
    np.testing.assert_array_equal(found(text), [[2], [1], [0]])


def test_archive_of_tf_keras_2_12(tmp_path):
    """Its configs name modules that have moved since: keras.engine.functional."""
    original = _saved(tf_keras, tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                assert b"src.engine" in content
                content = content.replace(b"tf_keras.src.", b"keras.")
                content = content.replace(b"keras.src.", b"keras.")
            old.writestr(name, content)
    with pytest.raises(TypeError, match="cannot be imported"):
        tf_keras.models.load_model(tmp_path / "old.keras")
    found = tfslim.load_model(tmp_path / "old.keras")
    np.testing.assert_array_equal(_outputs(found), _outputs(original))


def _write_keras1(path, config, weights):
    """Writes what Keras 1.2 wrote: layer name -> {weight name: array}."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        file.attrs["model_config"] = json.dumps(config).encode()
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                group[key] = array


def test_keras1(tmp_path):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 2, 4)).astype(np.float32)
    bias = random.normal(size=4).astype(np.float32)
    dense = random.normal(size=(36, 3)).astype(np.float32)
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "Convolution2D",
                "config": {
                    "name": "conv",
                    "batch_input_shape": [None, 8, 8, 2],
                    "input_dtype": "float32",
                    "nb_filter": 4,
                    "nb_row": 3,
                    "nb_col": 3,
                    "border_mode": "valid",
                    "subsample": [1, 1],
                    "dim_ordering": "tf",
                    "init": "glorot_uniform",
                    "activation": "relu",
                    "bias": True,
                    "W_regularizer": {"name": "L1L2Regularizer", "l1": 0.0, "l2": 0.1},
                    "b_regularizer": None,
                    "activity_regularizer": None,
                    "W_constraint": None,
                    "b_constraint": None,
                    "trainable": True,
                },
            },
            {
                "class_name": "MaxPooling2D",
                "config": {
                    "name": "pool",
                    "pool_size": [2, 2],
                    "strides": [2, 2],
                    "border_mode": "valid",
                    "dim_ordering": "tf",
                    "trainable": True,
                },
            },
            {"class_name": "Flatten", "config": {"name": "flat", "trainable": True}},
            {"class_name": "Dropout", "config": {"name": "drop", "p": 0.5}},
            {
                "class_name": "Dense",
                "config": {
                    "name": "dense",
                    "output_dim": 3,
                    "input_dim": 36,
                    "init": "glorot_uniform",
                    "activation": "linear",
                    "bias": False,
                    "W_regularizer": None,
                },
            },
        ],
    }
    weights = {
        "conv": {"conv_W": kernel, "conv_b": bias},
        "pool": {},
        "flat": {},
        "drop": {},
        "dense": {"dense_W": dense},
    }
    _write_keras1(tmp_path / "old.h5", config, weights)
    found = tfslim.load_model(tmp_path / "old.h5")
    x = random.normal(size=(8, 8, 2)).astype(np.float32)
    conv = np.empty((6, 6, 4))
    for row, column in np.ndindex(6, 6):
        patch = x[row : row + 3, column : column + 3, :, None]
        conv[row, column] = np.maximum((patch * kernel).sum((0, 1, 2)) + bias, 0)
    pooled = conv.reshape(3, 2, 3, 2, 4).max((1, 3))
    np.testing.assert_allclose(
        np.asarray(found(x[None]))[0], pooled.reshape(-1) @ dense, rtol=1e-4, atol=1e-4
    )
    assert found.get_layer("drop").rate == 0.5
    assert float(found.get_layer("conv").kernel_regularizer.l2) == pytest.approx(0.1)


def test_keras1_merge(tmp_path):
    def dense(name):
        return {
            "class_name": "Dense",
            "name": name,
            "config": {"name": name, "output_dim": 2, "bias": False, "init": "zero"},
            "inbound_nodes": [[["in", 0, 0]]],
        }

    merged = {
        "class_name": "Merge",
        "name": "merge",
        "config": {"name": "merge", "mode": "concat", "concat_axis": -1},
        "inbound_nodes": [[["a", 0, 0], ["b", 0, 0]]],
    }
    given = {
        "class_name": "InputLayer",
        "name": "in",
        "config": {
            "name": "in",
            "batch_input_shape": [None, 3],
            "input_dtype": "float32",
            "sparse": False,
        },
        "inbound_nodes": [],
    }
    config = {
        "class_name": "Model",
        "config": {
            "name": "model_1",
            "layers": [given, dense("a"), dense("b"), merged],
            "input_layers": [["in", 0, 0]],
            "output_layers": [["merge", 0, 0]],
        },
    }
    a, b = np.arange(6.0).reshape(3, 2), np.arange(6.0).reshape(3, 2)[::-1] + 1
    weights = {"in": {}, "a": {"a_W": a}, "b": {"b_W": b}, "merge": {}}
    _write_keras1(tmp_path / "merge.h5", config, weights)
    found = tfslim.load_model(tmp_path / "merge.h5")
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_allclose(found(x), np.hstack([x @ a, x @ b]))
    merged["config"]["mode"] = "cos"
    _write_keras1(tmp_path / "cos.h5", config, weights)
    with pytest.raises(errors.ConfigError, match="'merge' merges by 'cos'"):
        tfslim.load_model(tmp_path / "cos.h5")


def _one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_weights_only(tmp_path):
    model = _model(keras)
    model.save_weights(tmp_path / "a.weights.h5")
    old = _model(tf_keras)
    old.save_weights(str(tmp_path / "b.h5"))
    for name in ("a.weights.h5", "b.h5"):
        with pytest.raises(errors.ConfigError, match="holds weights only") as error:
            tfslim.load_model(tmp_path / name)
        assert name in _one_line(error)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize("keep", [0, 5, 500, 0.5, 0.98])
def test_cut_short(tmp_path, package, name, keep):
    whole = tmp_path / name
    _saved(KERAS[package], str(whole))
    content = whole.read_bytes()
    size = keep if isinstance(keep, int) else int(keep * len(content))
    whole.write_bytes(content[:size])
    with pytest.raises(errors.DataError, match="damaged") as error:
        tfslim.load_model(whole)
    assert name in _one_line(error)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_flipped_bytes(tmp_path, name):
    whole = tmp_path / name
    _saved(keras, str(whole))
    content = bytearray(whole.read_bytes())
    for place in range(40, len(content), 97):
        content[place] ^= 0xFF
    whole.write_bytes(bytes(content))
    with pytest.raises(errors.TfslimError) as error:
        tfslim.load_model(whole)
    _one_line(error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.tflite", b"\x1c\0\0\0TFL3", "already converted"),
        ("m.pkl", b"\x80\x04K\x01.", "A pickle runs code"),
        ("m.pt", b"PK\x03\x04", "damaged"),
        ("m.json", b"{}", "has no weights"),
        ("m.txt", b"hello", "is no Keras model; expected a .keras"),
        ("saved_model.pb", b"\x08\x01", "Give the folder"),
    ],
)
def test_wrong_kind_of_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.TfslimError, match=message) as error:
        tfslim.load_model(tmp_path / name)
    assert name in _one_line(error)


def test_zip_and_hdf5_of_others(tmp_path):
    np.savez(tmp_path / "arrays.npz", np.ones(3))
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(errors.ConfigError, match="no Keras model"):
        tfslim.load_model(tmp_path / "arrays.npz")
    with pytest.raises(errors.ConfigError, match="no Keras model"):
        tfslim.load_model(tmp_path / "data.h5")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.keras", "There is no file or folder 'missing.keras'"),
        ("no/such/folder", "There is no file or folder"),
        ("resnet19", "Did you mean 'resnet18'"),
        ("", "module:function"),
    ],
)
def test_nothing_there(source, message):
    with pytest.raises(errors.ConfigError, match=message) as error:
        tfslim.load_model(source)
    _one_line(error)


def test_folder_without_a_model(tmp_path):
    with pytest.raises(errors.ConfigError, match="no SavedModel"):
        tfslim.load_model(tmp_path)
    _saved(keras, tmp_path / "inside.keras")
    with pytest.raises(errors.ConfigError, match=r"Did you mean '.*inside\.keras'"):
        tfslim.load_model(tmp_path)


def test_saved_model_without_keras(tmp_path):
    _model(keras).export(tmp_path / "exported", verbose=False)
    with pytest.raises(errors.ConfigError, match="holds functions but no Keras model"):
        tfslim.load_model(tmp_path / "exported")


def test_damaged_saved_model(tmp_path):
    whole = tmp_path / "whole"
    _saved(tf_keras, str(whole))
    for name in ("saved_model.pb", "keras_metadata.pb", "variables/variables.index"):
        broken = tmp_path / "broken"
        shutil.copytree(whole, broken)
        content = (broken / name).read_bytes()
        (broken / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(errors.DataError) as error:
            tfslim.load_model(broken)
        _one_line(error)
        shutil.rmtree(broken)


def test_input_shape(tmp_path):
    x = tf_keras.Input((None, None, 3))
    y = tf_keras.layers.Conv2D(4, 3, activation="relu")(x)
    y = tf_keras.layers.GlobalAveragePooling2D()(y)
    original = tf_keras.Model(x, tf_keras.layers.Dense(2)(y))
    original.save(tmp_path / "open.keras")
    found = tfslim.load_model(tmp_path / "open.keras", input_shape=(12, 10, 3))
    assert found.input_shape == (None, 12, 10, 3)
    np.testing.assert_array_equal(
        _outputs(found), np.asarray(original(_images((3, 12, 10, 3))))
    )
    _saved(keras, tmp_path / "fixed.keras")
    with pytest.raises(errors.ConfigError, match=r"takes \(8, 8, 3\) and cannot"):
        tfslim.load_model(tmp_path / "fixed.keras", input_shape=(8, 8, 1))
    with pytest.raises(errors.ConfigError, match="has no options; got 'alpha'"):
        tfslim.load_model(tmp_path / "fixed.keras", alpha=0.5)


def _images(shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mobilenet_v2", True),
        ("keras.applications.MobileNetV2", True),
        ("models/my.py:build", True),
        (__file__, True),
        ("/none.keras", False),
        ("mobilenet_v9", False),
    ],
)
def test_what_can_be_opened_is_known_without_opening_it(source, expected):
    assert loading.is_known(source) is expected
