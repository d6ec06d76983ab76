"""No code inside a file runs unless the user vouches for it."""

import json
import re
import sys

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from stranger_files import change_archive

import tfslim
from tfslim import errors

KERAS = {"tf_keras": tf_keras, "keras": keras}


def _with_lambda(package, witness):
    """A model whose Lambda leaves a file when it runs."""

    code = f"lambda x: (__import__('pathlib').Path({str(witness)!r}).touch(), x + 1)[1]"
    touch = eval(code)
    x = package.Input((3,))
    options = {"output_shape": (3,)} if package is keras else {}
    return package.Model(x, package.layers.Lambda(touch, name="bad", **options)(x))


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("tf_keras", "m.keras"),
        ("tf_keras", "m.h5"),
        ("tf_keras", "folder"),
        ("keras", "m.keras"),
        ("keras", "m.h5"),
    ],
)
def test_lambda_is_refused(tmp_path, package, name):
    witness = tmp_path / "ran"
    _with_lambda(KERAS[package], witness).save(tmp_path / name)
    witness.unlink(missing_ok=True)
    with pytest.raises(errors.ConfigError, match="bytecode") as error:
        tfslim.load_model(tmp_path / name)
    assert "--allow_unsafe" in str(error.value)
    assert not witness.exists()
    found = tfslim.load_model(tmp_path / name, allow_unsafe=True)
    np.testing.assert_allclose(found(np.zeros((1, 3), np.float32)), np.ones((1, 3)))
    assert witness.exists()


@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("keras.utils", "get_file"), ("keras.src.utils", "get_file")],
)
def test_foreign_function_is_refused(tmp_path, package, module, name):
    library = KERAS[package]
    model = library.Sequential([library.Input((3,)), library.layers.Dense(2)])
    model.save(tmp_path / "m.keras")

    def change(config):
        dense = config["config"]["layers"][1]["config"]
        dense["activation"] = {
            "class_name": "function",
            "config": name,
            "module": module,
            "registered_name": name,
        }

    change_archive(tmp_path / "m.keras", change)
    with pytest.raises(errors.ConfigError, match=f"needs '{name}'"):
        tfslim.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize("package", KERAS)
def test_foreign_module_is_not_imported(tmp_path, monkeypatch, package):
    (tmp_path / "hostile.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Layer: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    library = KERAS[package]
    library.Sequential([library.Input((3,)), library.layers.Dense(2)]).save(
        tmp_path / "m.keras"
    )

    def change(config):
        config["config"]["layers"][1].update(
            module="hostile", class_name="Layer", registered_name="x>Layer"
        )

    change_archive(tmp_path / "m.keras", change)
    with pytest.raises(errors.ConfigError, match="'Layer' of module 'hostile'"):
        tfslim.load_model(tmp_path / "m.keras")
    assert "hostile" not in sys.modules
    assert not (tmp_path / "ran").exists()


def _write_layer(path, kind, config):
    """Writes an .h5 of tf.keras 2.9 whose one layer is a `kind`."""
    layer = {"class_name": kind, "config": {"name": "bad", **config}}
    whole = {"class_name": "Functional", "config": {"layers": [layer]}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.9.0"
        file.attrs["model_config"] = json.dumps(whole)


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("TFOpLambda", {"function": "io.write_file"}, "calls tf.io.write_file"),
        ("TFOpLambda", {"function": "load_op_library"}, "calls tf.load_op_library"),
        ("TFOpLambda", {"function": "compat.v1.py_func"}, "calls tf.py_func"),
        ("TFOpLambda", {"function": "raw_ops.WriteFile"}, "calls tf.raw_ops"),
        ("ClassMethod", {"cls_symbol": "io.gfile.GFile"}, "a method of tf.io.gfile"),
        ("InstanceProperty", {"attr_name": "__class__"}, "reads '__class__'"),
        ("TensorFlowOpLayer", {"node_def": "{}"}, "holds a raw operation"),
    ],
)
def test_reaching_outside_is_refused(tmp_path, kind, config, message):
    _write_layer(tmp_path / "m.h5", kind, config)
    with pytest.raises(errors.ConfigError, match=re.escape(message)) as error:
        tfslim.load_model(tmp_path / "m.h5")
    assert "layer 'bad'" in str(error.value)


class Scale(tf_keras.layers.Layer):
    def call(self, x):
        return x * 3.0


@keras.saving.register_keras_serializable("tests")
class Scale3(keras.layers.Layer):
    def call(self, x):
        return x * 3.0


class Unregistered3(keras.layers.Layer):
    def call(self, x):
        return x * 3.0


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder"])
def test_custom_layer_of_tf_keras(tmp_path, name):
    x = tf_keras.Input((3,))
    tf_keras.Model(x, Scale()(x)).save(tmp_path / name)
    with pytest.raises(errors.ConfigError, match="needs 'Scale'"):
        tfslim.load_model(tmp_path / name)
    found = tfslim.load_model(tmp_path / name, custom_objects={"Scale": Scale})
    assert isinstance(found.layers[-1], Scale)
    assert tf_keras.saving.get_registered_object("Scale") is None
    if name != "m.h5":  # An .h5 does not say where the class is.
        allowed = tfslim.load_model(tmp_path / name, allow_unsafe=True)
        one = np.ones((1, 3), np.float32)
        np.testing.assert_allclose(allowed(one), 3.0 * one)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_custom_layer_of_keras3(tmp_path, name):
    x = keras.Input((3,))
    keras.Model(x, Unregistered3()(x)).save(tmp_path / name)
    with pytest.raises(errors.ConfigError, match="needs 'Unregistered3'"):
        tfslim.load_model(tmp_path / name)
    custom = {"Unregistered3": Unregistered3}
    found = tfslim.load_model(tmp_path / name, custom_objects=custom)
    assert isinstance(found.layers[-1], Unregistered3)
    # What the user's own process registered is the user's own.
    keras.Model(x, Scale3()(x)).save(tmp_path / "r.keras")
    assert isinstance(tfslim.load_model(tmp_path / "r.keras").layers[-1], Scale3)


def test_named_function_of_a_lambda(tmp_path):
    def double(x):
        return x * 2.0

    x = keras.Input((3,))
    layer = keras.layers.Lambda(double, output_shape=(3,))
    keras.Model(x, layer(x)).save(tmp_path / "m.keras")
    with pytest.raises(errors.ConfigError, match="needs 'double'"):
        tfslim.load_model(tmp_path / "m.keras")
    found = tfslim.load_model(tmp_path / "m.keras", custom_objects={"double": double})
    one = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(found(one), 2.0 * one)
