"""Normalization by a layer in the file, for programs that know one pair of numbers."""

import numpy as np
import pytest

from tfslim import apps, consumers, errors, tflite
from tfslim.preprocessing import preset
from tfslim.tflite import metadata, standard_metadata


def _with(classifier, recipe, name):
    """A file that is said to be of another preprocessing."""
    entry = metadata.get_json(classifier.files[recipe]) | {
        "preprocessing": preset(name, (24, 24, 3)).to_json()
    }
    content = metadata.put_json(classifier.files[recipe], entry)
    return apps.write_standard(metadata.put(content, {"TFLITE_METADATA": b""}))


@pytest.mark.parametrize("name", ["raw", "symmetric", "torch", "caffe"])
@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_pixels_in_give_what_normalized_ones_gave(classifier, name, recipe):
    content = _with(classifier, recipe, name)
    inside = apps.normalize_inside(content)
    pixels = classifier.pixels[:8]
    x = preset(name, (24, 24, 3)).apply(pixels)
    for index in range(8):
        (expected,) = tflite.run(content, x[index : index + 1]).values()
        raw = pixels[index : index + 1].astype(np.float32)
        (found,) = tflite.run(inside, raw).values()
        # An INT8 input may round to the level beside.
        atol = 1e-5 if recipe == "float32" else 0.02
        np.testing.assert_allclose(found, expected, atol=atol)
    assert tflite.read(inside).input_names.keys() == {"image"}
    standard = standard_metadata.get(inside)
    assert (standard.mean, standard.std) == ((0.0,), (1.0,))
    assert standard.labels == apps.read_about(content).labels
    assert apps.read_about(inside).preprocessing == preset("raw", (24, 24, 3))


def test_mediapipe_opens_a_file_with_a_pair_for_each_channel(classifier):
    reason = consumers.CONSUMERS.get("mediapipe").missing()
    if reason:
        pytest.skip(reason)
    content = _with(classifier, "float32", "torch")
    pixels = classifier.pixels[:16]
    x = preset("torch", (24, 24, 3)).apply(pixels)
    with pytest.raises(consumers.ConsumerError, match="Per-channel"):
        consumers.run(content, {"image": x}, name="mediapipe")
    inside = apps.normalize_inside(content)
    raw = {"image": pixels.astype(np.float32)}
    (found,) = consumers.run(inside, raw, name="mediapipe").outputs.values()
    (expected,) = consumers.run(content, {"image": x}, name="compiled").outputs.values()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_file_that_says_nothing_is_refused(classifier):
    bare = metadata.put(classifier.plain, {"tfslim": b"{}", "TFLITE_METADATA": b""})
    with pytest.raises(errors.ConfigError, match="does not say how pixels"):
        apps.normalize_inside(bare)
