"""Configs that are damaged or too large are refused before Keras sees them."""

import json
import os
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import errors


def _given(shape, name="in"):
    config = {"name": name, "batch_input_shape": [None, *shape], "dtype": "float32"}
    return {
        "class_name": "InputLayer",
        "name": name,
        "config": config,
        "inbound_nodes": [],
    }


def _network(layers, name="net", node=0):
    config = {
        "name": name,
        "layers": layers,
        "input_layers": [[layers[0]["name"], 0, 0]],
        "output_layers": [[layers[-1]["name"], node, 0]],
    }
    return {"class_name": "Functional", "name": name, "config": config}


def _layer(kind, *, nodes=None, **config):
    return {
        "class_name": kind,
        "name": "x",
        "config": {"name": "x", **config},
        "inbound_nodes": nodes or [[["in", 0, 0, {}]]],
    }


def _write(path, config, weights=()):
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"x"] if weights else np.array([], "S1")
        part = root.create_group("x")
        part.attrs["weight_names"] = [str(i).encode() for i in range(len(weights))]
        for index, array in enumerate(weights):
            part[str(index)] = array


def _refused(path, match):
    with pytest.raises(errors.DataError, match=match) as error:
        tfslim.load_model(path)
    assert "\n" not in str(error.value)


def _laughs(levels):
    """Models in models, each of which calls the next twice."""
    model = _network([_given([2]), _layer("ReLU")])
    for level in range(levels):
        first = model["name"]
        model["inbound_nodes"] = [[["in", 0, 0, {}]], [[first, 1, 0, {}]]]
        model = _network([_given([2]), model], name=f"net{level}", node=2)
    return model


def _unrolled():
    model = _network([_given([100_000, 1]), _layer("SimpleRNN", units=1, unroll=True)])
    return model, [np.ones((1, 1), "f"), np.ones((1, 1), "f"), np.ones(1, "f")]


@pytest.mark.parametrize("version", [2, 3])
def test_input_that_fills_the_memory(tmp_path, version):
    if version == 2:
        layer = _layer("Normalization", axis=[-1], mean=1.0, variance=1.0)
        _write(tmp_path / "m.h5", _network([_given([400_000_000]), layer]))
        _refused(tmp_path / "m.h5", "declares an input of")
        return
    normalization = keras.layers.Normalization(mean=1.0, variance=1.0)
    model = keras.Sequential([keras.Input((4,)), normalization])
    _change(model, tmp_path / "m.keras", lambda c: c.replace("4]", "400000000]"))
    _refused(tmp_path / "m.keras", "declares an input of")


def _change(model, path, change):
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    before = parts["config.json"].decode()
    parts["config.json"] = change(before).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_config_that_fills_the_memory(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
    many = '"x": [' + "[]," * 2_000_001 + "0]}"
    _change(model, tmp_path / "m.keras", lambda c: f"{c[:-1]}, {many}")
    _refused(tmp_path / "m.keras", "a config of more than")


def test_half_a_character(tmp_path):
    layers = [keras.Input((4,)), keras.layers.ReLU(name="half")]
    _change(
        keras.Sequential(layers),
        tmp_path / "m.keras",
        lambda c: c.replace('"half"', r'"\ud800"'),
    )
    _refused(tmp_path / "m.keras", "no Unicode")


def test_functions_that_only_look_odd(tmp_path):
    """Text among a function's arguments names no layer; these functions are pure."""
    import tensorflow as tf

    x = tf_keras.Input((4, 3))
    y = tf.norm(x, axis=-1)
    y = tf.debugging.check_numerics(y, "bad")
    y = tf_keras.backend.batch_flatten(y)
    original = tf_keras.Model(x, y)
    value = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    for name in ("m.keras", "m.h5", "folder"):
        original.save(tmp_path / name)
        found = tfslim.load_model(tmp_path / name)
        np.testing.assert_allclose(
            found(value), np.linalg.norm(value, axis=-1), rtol=1e-5
        )


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("InstanceProperty", {"attr_name": ["shape"]}),
        ("__numpy__", {"dtype": ["float32"]}),
        ("Lambda", {"function": "abs", "output_shape_type": ["raw"]}),
    ],
)
def test_lists_for_names(tmp_path, kind, config):
    _write(tmp_path / "m.h5", _network([_given([2]), _layer(kind, **config)]))
    _refused(tmp_path / "m.h5", "is damaged")


@pytest.mark.parametrize(
    ("kind", "config"),
    [("Convolution2D", {"nb_row": 3}), ("Merge", {"mode": ["sum"]})],
)
def test_damaged_config_of_keras1(tmp_path, kind, config):
    model = {"class_name": "Sequential", "config": [_layer(kind, **config)]}
    _write(tmp_path / "m.h5", model)
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["keras_version"] = "1.2.2"
        file.attrs["backend"] = "tensorflow"
    _refused(tmp_path / "m.h5", "cannot open")


def test_config_that_is_no_text(tmp_path):
    _write(tmp_path / "m.h5", {})
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["model_config"] = np.arange(5)
    _refused(tmp_path / "m.h5", "damaged")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", ["keras_metadata.pb", "variables/variables.data-9"])
def test_pipe_in_a_saved_model(tmp_path, name):
    layers = [tf_keras.Input((2,)), tf_keras.layers.ReLU()]
    tf_keras.Sequential(layers).save(tmp_path / "folder")
    (tmp_path / "folder" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "folder" / name)
    with pytest.raises(errors.ConfigError, match="no plain file"):
        tfslim.load_model(tmp_path / "folder")
