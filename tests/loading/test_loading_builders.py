"""Models from functions: the user's own, keras.applications, subclassed ones."""

import importlib
import sys
import textwrap

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
import tfslim.preprocessing
from tfslim import errors, loading

KERAS = {"tf_keras": tf_keras, "keras": keras}

_CODE = """
import {package} as keras

def build(width=4):
    x = keras.Input((8,))
    return keras.Model(x, keras.layers.Dense(width)(x))

def fails():
    raise RuntimeError("no weights today")

def returns_text():
    return "model"

class Chain(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = keras.layers.Conv2D(4, 3, activation="relu")
        self.norm = keras.layers.BatchNormalization()
        self.flat = keras.layers.Flatten()
        self.dense = keras.layers.Dense(2)

    def call(self, x, training=None):
        y = self.norm(self.conv(x), training=training)
        return self.dense(self.flat(y + 1.0))

class Branching(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x) if float(x[0, 0]) > 0 else -self.dense(x)

class OwnWeight(keras.Model):
    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale

chain = Chain()
"""


@pytest.fixture(params=KERAS)
def module(request, tmp_path, monkeypatch):
    """A module of the user's, in the current folder."""
    name = f"user_{request.param}_models"
    code = textwrap.dedent(_CODE).format(package=request.param)
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_function(module):
    assert tfslim.load_model(f"{module}:build").output_shape == (None, 4)
    assert tfslim.load_model(f"{module}:build", width=3).output_shape == (None, 3)
    assert tfslim.load_model(f"{module}.py:build").output_shape == (None, 4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "has no 'nothing'"),
        ("fails", "RuntimeError: no weights today"),
        ("returns_text", "returns a str, no Keras model"),
    ],
)
def test_wrong_function(module, function, message):
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.load_model(f"{module}:{function}")


def test_wrong_module(tmp_path):
    with pytest.raises(errors.ConfigError, match="cannot be imported"):
        tfslim.load_model("no_such_module:build")
    with pytest.raises(errors.ConfigError, match="There is no Python file"):
        tfslim.load_model(f"{tmp_path}/none.py:build")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(errors.ConfigError, match="ZeroDivisionError"):
        tfslim.load_model(f"{tmp_path}/broken.py:build")


def test_subclassed_chain(module):
    found = tfslim.load_model(f"{module}:Chain", input_shape=(6, 6, 1))
    assert found.input_shape == (None, 6, 6, 1)
    # The result has the layers of the subclassed model, so the two can be compared.
    again = tfslim.load_model(f"{module}:chain", input_shape=(6, 6, 1))
    source = sys.modules[module].chain
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 1)).astype(np.float32)
    np.testing.assert_allclose(again(x), source(x), rtol=1e-6)
    assert len(again.weights) == 8
    # Once it has been called its input is known.
    assert tfslim.load_model(f"{module}:chain").output_shape == (None, 2)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("Chain", None, "without a known input"),
        ("Branching", (3,), "is no plain chain of layers"),
        ("OwnWeight", (3,), "is no plain chain of layers"),
    ],
)
def test_subclassed_that_is_no_chain(module, name, shape, message):
    with pytest.raises(errors.ConfigError, match=message) as error:
        tfslim.load_model(f"{module}:{name}", input_shape=shape)
    assert "\n" not in str(error.value)


def test_subclassed_file_is_refused(module, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    chain = importlib.import_module(module).Chain
    net = chain()
    net(np.zeros((1, 6, 6, 1), np.float32))
    net.save(tmp_path / "net.keras")
    with pytest.raises(errors.ConfigError, match="is a subclassed model, 'Chain'"):
        tfslim.load_model(tmp_path / "net.keras")
    found = tfslim.load_model(tmp_path / "net.keras", custom_objects={"Chain": chain})
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 1)).astype(np.float32)
    np.testing.assert_allclose(found(x), net(x), rtol=1e-6)
    assert type(found).__module__.split(".")[0] in KERAS


def test_subclassed_saved_model_is_refused(tmp_path):
    class Net(tf_keras.Model):
        def call(self, x):
            return x * 2.0

    net = Net()
    net(np.zeros((1, 3), np.float32))
    net.save(tmp_path / "net")
    with pytest.raises(errors.ConfigError, match="is a subclassed model, 'Net'"):
        tfslim.load_model(tmp_path / "net")


@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize("sign", [".", ":"])
def test_applications(package, sign):
    found = tfslim.load_model(
        f"{package}.applications{sign}MobileNetV2",
        weights=None,
        alpha=0.35,
        input_shape=(32, 32, 3),
        classes=7,
    )
    assert type(found).__module__.startswith(f"{package}.")
    assert found.output_shape == (None, 7)


def test_wrong_application():
    with pytest.raises(errors.ConfigError, match="Did you mean 'MobileNetV2'"):
        tfslim.load_model("keras.applications.MobilenetV2")
    with pytest.raises(errors.ConfigError, match="can be either Keras"):
        tfslim.load_model("tf.keras.applications.MobileNetV2")
    with pytest.raises(errors.ConfigError, match=r"applications\.MobileNetV2: "):
        tfslim.load_model("keras.applications.MobileNetV2", weights=None, no_such=1)


def test_zoo():
    found = tfslim.load_model("mlp", input_shape=(4,), hidden=(3,))
    assert found.input_shape == (None, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet18", ("resnet18", "")),
        ("resnet18:alpha", ("resnet18", "alpha")),
        ("mlp:hidden=(3,)", ("mlp", "hidden=(3,)")),
        ("my_module:build", ("my_module:build", "")),
        ("my_module:build:width=8,x=1", ("my_module:build", "width=8,x=1")),
        ("a/b.py:build:width=8", ("a/b.py:build", "width=8")),
        (r"C:\models\m.h5", (r"C:\models\m.h5", "")),
        (
            "keras.applications.VGG16:weights=None",
            ("keras.applications.VGG16", "weights=None"),
        ),
        ("tf_keras.applications:VGG16", ("tf_keras.applications:VGG16", "")),
        ("m.keras:input_shape=(8, 8, 3)", ("m.keras", "input_shape=(8, 8, 3)")),
    ],
)
def test_split(text, expected):
    assert loading.split(text) == expected


def test_split_keeps_a_path_that_exists(tmp_path):
    path = tmp_path / "run:lr=0.1.keras"
    path.touch()
    assert loading.split(str(path)) == (str(path), "")


@pytest.mark.parametrize("package", KERAS)
@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("MobileNetV2", "symmetric"),
        ("DenseNet121", "torch"),
        ("ResNet50", "caffe"),
        ("EfficientNetB0", "raw"),
    ],
)
def test_preprocessing_of_applications(package, name, preset):
    # Any model with an image input will do: the rule is that of the name.
    library = KERAS[package]
    model = library.Sequential([library.Input((8, 8, 3)), library.layers.Flatten()])
    found, _ = loading.find_preprocessing(f"{package}.applications.{name}", model)
    assert found == tfslim.preprocessing.preset(preset, (8, 8, 3))


@pytest.mark.parametrize("package", KERAS)
def test_preprocessing_inside_the_model(package):
    library = KERAS[package]
    layers = library.layers
    x = library.Input((8, 8, 3))
    plain = library.Model(x, layers.Rescaling(2.0)(layers.Conv2D(2, 3)(x)))
    assert loading.find_preprocessing("m.h5", plain) is None
    for scaled in (layers.Rescaling(1 / 255)(x), x / 255.0 - 0.5):
        inner = library.Model(x, layers.Conv2D(2, 3)(scaled))
        nested = library.Sequential([library.Input((8, 8, 3)), inner])
        for model in (inner, nested):
            found, why = loading.find_preprocessing("m.h5", model)
            assert found == tfslim.preprocessing.preset("raw", (8, 8, 3))
            assert why == "the model scales pixels itself"
