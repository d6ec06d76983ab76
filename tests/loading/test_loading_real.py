"""Other people's models: each opens, does what its own Keras does, and converts."""

import os
from pathlib import Path

import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import convert, tflite
from tfslim.graph import keras as graph_keras

DATA = os.environ.get("TFSLIM_DATA")
pytestmark = pytest.mark.skipif(
    not DATA, reason="TFSLIM_DATA, the folder of real models, is not set"
)
MODELS = {
    "pretrainedResnet.h5": (32, 32, 3),
    "vww_96.h5": (96, 96, 3),
    "ad01.h5": (640,),
    "kws_saved_model": (49, 10, 1),
    "keras_model.h5": (224, 224, 3),
    "mini_xception.hdf5": (48, 48, 1),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n == "keras_model.h5" else [])
        for n in MODELS
    ],
)
def test_opens_runs_and_converts(name):
    path = Path(DATA) / "models" / "keras" / name
    found = tfslim.load_model(path)
    assert found.input_shape == (None, *MODELS[name])
    original = tf_keras.models.load_model(str(path), compile=False)
    x = np.random.default_rng(0).normal(size=(1, *MODELS[name])).astype(np.float32)
    wanted = np.asarray(original(x, training=False))
    np.testing.assert_array_equal(found(x, training=False), wanted)
    got = next(iter(tflite.Runner(convert.convert_model(found).tflite)(x).values()))
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.ptp(wanted))
    again = graph_keras.to_keras3(found)
    np.testing.assert_allclose(again(x), wanted, atol=1e-5 * np.ptp(wanted))


def test_real_accuracy():
    """On real images: the scaling that pretrainedResnet needs is found, 87%."""
    with np.load(Path(DATA) / "cifar10" / "cifar10_12k.npz") as file:
        x, y = file["x_test"][:200], file["y_test"][:200].reshape(-1)
    found = tfslim.load_model(Path(DATA) / "models" / "keras" / "pretrainedResnet.h5")
    answers = np.asarray(found(x.astype(np.float32))).argmax(-1)
    assert np.mean(answers == y) > 0.8
