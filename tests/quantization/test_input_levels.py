"""Samples that are normalized once more by the model itself."""

import warnings

import numpy as np
import pytest
import small_models
import tf_keras
from tf_keras import layers

from tfslim import TfslimWarning, quantize_tflite

SHAPE = (1, 8, 8, 3)


def _file(*scaling):
    inputs = tf_keras.Input(SHAPE[1:], batch_size=1)
    x = inputs
    for layer in scaling:
        x = layer(x)
    # A border of padding keeps the converter from folding the scaling into it.
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    return small_models.convert(tf_keras.Model(inputs, layers.ReLU()(x)))


def _samples(low, high):
    random = np.random.default_rng(0)
    return [random.uniform(low, high, SHAPE).astype(np.float32) for _ in range(8)]


def _doubts(file, samples, recipe="int8", **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        done = quantize_tflite(file, recipe, samples=samples, **options)
    ours = [str(w.message) for w in said if w.category is TfslimWarning]
    assert ours == [*done.doubts]
    return ours


@pytest.mark.parametrize(
    ("scaling", "twice", "span", "levels"),
    [
        # 255 * 2 / 127.5 / (1 + 1 / 127.5)
        ((layers.Rescaling(1 / 127.5, -1, name="own"),), (-1, 1), "-1.008", 4),
        # 255 * 2 / 129
        ((layers.Rescaling(1, -128, name="own"),), (-1, 1), "-129", 4),
        (
            (
                layers.Rescaling(1 / 255),
                layers.Normalization(mean=0.5, variance=0.04, name="own"),
            ),
            (0, 1),
            "-2.5",
            2,
        ),
    ],
)
def test_what_is_normalized_twice_is_named_with_its_layer(scaling, twice, span, levels):
    file = _file(*scaling)
    (text,) = _doubts(file, _samples(*twice))
    assert "'own'" in text or "/own/" in text
    assert f"makes [{span}, " in text
    assert f"{levels} of INT8's 256 levels" in text
    assert "Feed it pixels, 0 to 255" in text
    assert not _doubts(file, _samples(0, 255))


def test_scaling_to_zero_and_more_keeps_its_levels():
    assert not _doubts(_file(layers.Rescaling(1 / 255)), _samples(0, 1))


def test_inputs_that_are_far_from_zero_are_to_be_centered():
    file = _file(layers.Normalization(mean=2010.0, variance=25.0))
    (text,) = _doubts(file, _samples(2000, 2020))
    assert text.startswith("The inputs span [2000, 2020], 3 of INT8's 256 levels")


def test_what_is_made_for_no_pixels_is_not_said_to_want_them():
    file = _file(layers.Normalization(mean=2010.0, variance=25.0))
    (text,) = _doubts(file, _samples(-2, 2))
    assert "Feed it what the layer is made for" in text


def test_nothing_is_said_of_what_lacks_no_levels():
    file, twice = _file(layers.Rescaling(1 / 127.5, -1, name="own")), _samples(-1, 1)
    for recipe in ("static_wi8_ai16", "dynamic_int8"):
        assert not _doubts(file, twice, recipe)
    assert not _doubts(file, twice, layers={"*": "float32"})
    constant = [np.full(SHAPE, 0.5, np.float32)] * 4
    assert not _doubts(file, constant)
