"""A small classifier of pictures, made once: its Keras model and its files."""

import dataclasses

import numpy as np
import pytest

import tfslim
from tfslim import apps
from tfslim.consumers import samples
from tfslim.preprocessing import Preprocessing

LABELS = ["cat", "dog", "fox", "owl", "eel"]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A Keras model, its files by recipe, and pictures with Keras's answers."""

    model: object
    plain: bytes
    files: dict
    pixels: np.ndarray
    x: np.ndarray
    answers: np.ndarray

    @property
    def inputs(self):
        return {"image": self.x}


@pytest.fixture(scope="session")
def classifier():
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(5)
    x = inputs = tf_keras.Input((24, 24, 3), batch_size=1, name="image")
    x = layers.Conv2D(16, 3, 2, "same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 3, 2, "same", activation="relu")(x)
    x = layers.Flatten()(layers.AveragePooling2D(3)(x))
    x = layers.Dense(len(LABELS), kernel_initializer="he_uniform")(x)
    model = tf_keras.Model(inputs, layers.Softmax(name="scores")(x))
    prepare = Preprocessing(input_shape=(24, 24, 3), scale=1 / 127.5, mean=(1.0,))
    pixels = samples.pictures(np.random.default_rng(1), (100, 24, 24, 3))
    x = prepare.apply(pixels)
    # Without it all pictures get one class.
    model.layers[-2].bias.assign(-np.median(_logits(model, x), axis=0))
    entry = {
        "name": "little",
        "task": "classification",
        "labels": LABELS,
        "preprocessing": prepare.to_json(),
    }
    floating = tfslim.convert_model(model, metadata=entry).tflite
    files = {"float32": floating}
    rows = [row[None] for row in x]
    for recipe in ("float16", "dynamic_int8", "int8"):
        given = rows if recipe == "int8" else None
        files[recipe] = tfslim.quantize_tflite(floating, recipe, samples=given).tflite
    files = {name: apps.write_standard(file) for name, file in files.items()}
    return Classifier(
        model, floating, files, pixels, x, np.concatenate([*map(model, rows)])
    )


def _logits(model, x):
    import tf_keras

    part = tf_keras.Model(model.input, model.layers[-2].output)
    return np.concatenate([part(row[None]).numpy() for row in x])
