import json

import numpy as np
import pytest
from PIL import Image

from tfslim import errors, preprocessing
from tfslim.preprocessing import Preprocessing, preset

PIXELS = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw", [0.0, 51.0, 255.0]),
        ("unit", [0.0, 0.2, 1.0]),
        ("symmetric", [-1.0, -0.6, 1.0]),
        ("torch", [-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("caffe", [255 - 103.939, 51 - 116.779, 0 - 123.68]),
    ],
)
def test_presets_by_hand(name, expected):
    batch = preset(name, (1, 1, 3)).apply(PIXELS)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0, 0, 0], expected, rtol=1e-5, atol=1e-6)


def test_grey_and_rgb_convert_both_ways():
    grey = np.full((1, 2, 2, 1), 100, np.uint8)
    np.testing.assert_array_equal(
        preset("raw", (2, 2, 3)).apply(grey), np.full((1, 2, 2, 3), 100)
    )
    rgb = np.array([10, 20, 200], np.uint8).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        preset("raw", (1, 1, 1)).apply(rgb).item(),
        0.299 * 10 + 0.587 * 20 + 0.114 * 200,
        rtol=1e-6,
    )
    # Pillow's own grey conversion, which rounds.
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    ours = preset("raw", (5, 4, 1)).apply(image[None])[0, ..., 0]
    theirs = np.asarray(Image.fromarray(image).convert("L"))
    assert np.abs(ours - theirs).max() <= 1.0


def test_digits_become_what_the_model_takes():
    digits = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    batch = preset("unit", (32, 32, 3), resize="nearest").apply(digits)
    expected = np.kron(digits[0] / 255, np.ones((4, 4)))
    for channel in range(3):
        np.testing.assert_allclose(batch[0, ..., channel], expected, rtol=1e-6)


def test_area_resize_is_the_mean_of_blocks():
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 8, 3)).astype(np.uint8)
    batch = preset("raw", (3, 4, 3), resize="area").apply(image)
    expected = image.astype(float).reshape(1, 3, 2, 4, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(batch, expected, rtol=1e-5)


@pytest.mark.parametrize("method", sorted(preprocessing.RESIZE_METHODS))
def test_resize_of_a_flat_image_is_flat(method):
    images = [np.full((5, 7, 3), 9.0), np.full((64, 3, 3), 9.0)]
    batch = preset("raw", (16, 12, 3), resize=method).apply(images)
    np.testing.assert_allclose(batch, np.full((2, 16, 12, 3), 9.0), rtol=1e-6)


def test_input_is_not_changed_and_uint8_equals_float():
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    before = image.copy()
    step = preset("caffe", (6, 6, 3))
    np.testing.assert_array_equal(step.apply(image), step.apply(image.astype(float)))
    np.testing.assert_array_equal(image, before)


def test_vectors_take_the_formula_only():
    step = Preprocessing(input_shape=(2,), scale=2.0, mean=(1.0,), std=(0.5,))
    np.testing.assert_allclose(step.apply(np.array([[1.0, 3.0]])), [[2.0, 10.0]])
    with pytest.raises(errors.DataError, match="takes \\(2,\\)"):
        step.apply(np.zeros((1, 3)))


@pytest.mark.parametrize("name", sorted(preprocessing.PRESETS))
def test_json_round_trip(name):
    step = preset(name, (8, 6, 3), resize="area")
    text = json.dumps(step.to_json())
    assert Preprocessing.from_json(json.loads(text)) == step


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: preset("symetric", (1, 1, 3)), "Did you mean 'symmetric'"),
        (lambda: preset("torch", (28, 28, 1)), "expected 1 or 1"),
        (lambda: preset("caffe", (28, 28, 1)), "needs 3 channels"),
        (lambda: preset("raw", (1, 1, 3), resize="bilinaer"), "'bilinear'"),
        (lambda: preset("raw", (0, 1, 3)), "positive whole numbers"),
        (lambda: Preprocessing(input_shape=(1, 1, 3), std=(0.0,)), "not be zero"),
        (lambda: Preprocessing.from_json({"input_shape": [1], "sclae": 1}), "'scale'"),
        (lambda: Preprocessing.from_json({}), "no input_shape"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(errors.ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_channels_that_cannot_be_had_are_named():
    with pytest.raises(errors.DataError, match="4 channels, the model takes 3"):
        preset("raw", (2, 2, 3)).apply(np.zeros((1, 2, 2, 4), np.uint8))


@pytest.mark.parametrize(
    "value",
    [3, None, [], {"a": 1}, True, float("nan"), 10**40, ["x"], [None], [[1]]],
    ids=repr,
)
def test_json_of_a_strangers_file_may_be_anything(value):
    """As the metadata of a .tflite: each field is refused, or means what it says."""
    good = preprocessing.preset("torch", (8, 8, 3)).to_json()
    for name in good:
        if name == "scale" and value == 3:
            continue
        with pytest.raises(errors.ConfigError) as caught:
            preprocessing.Preprocessing.from_json({**good, name: value})
        assert "\n" not in str(caught.value)
    with pytest.raises(errors.ConfigError):
        preprocessing.Preprocessing.from_json(value)
