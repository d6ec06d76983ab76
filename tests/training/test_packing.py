import numpy as np
import pytest
import tensorflow as tf

from tfslim.training import packing

BFLOAT16 = tf.bfloat16.as_numpy_dtype


def test_values_come_back_as_they_were():
    value = {
        "none": None,
        "flag": True,
        "words": ["a", 3, -1.5, float("-inf")],
        "inner": {"x": {}},
        "weights": [
            np.arange(6, dtype=np.float32).reshape(2, 3),
            np.arange(6).reshape(2, 3).T,
            np.zeros((0, 4)),
            np.array(["no"]) == "no",
        ],
    }
    found = packing.unpack(packing.pack(value))
    weights = found.pop("weights")
    for ours, theirs in zip(weights, value.pop("weights"), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)
        ours[...] = 1  # An array that can be written to.
    assert found == value


@pytest.mark.parametrize(
    "value", [np.float32(0.1), np.int64(2**62), np.bool_(True), BFLOAT16(1.5)]
)
def test_numpy_numbers_keep_their_type(value):
    found = packing.unpack(packing.pack(value))
    assert found == value and found.dtype == value.dtype


def test_nan_and_bfloat16_keep_their_bits():
    array = np.array([np.nan, -0.0, 3.14], BFLOAT16)
    found = packing.unpack(packing.pack([array]))[0]
    assert found.dtype == array.dtype and found.tobytes() == array.tobytes()


def test_tuples_come_back_as_lists():
    assert packing.unpack(packing.pack((1, (2,)))) == [1, [2]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"state\['a'\]\[1\] is a set"),
        ({"a": {3: 4}}, r"state\['a'\] has the key 3"),
        (object(), "state is a object"),
    ],
)
def test_what_cannot_be_packed_is_named(value, message):
    with pytest.raises(TypeError, match=message):
        packing.pack(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no state at all, but long enough",
        packing.pack([1])[:-1],
        packing.pack([np.ones(3)])[:-1],
        packing.pack([np.ones(3)]) + b"x",
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError):
        packing.unpack(data)
