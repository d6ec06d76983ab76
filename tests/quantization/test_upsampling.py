"""Upsampling that is spelled out becomes one op, and the file computes the same."""

import numpy as np
import pytest
from small_models import convert_function

from tfslim import tflite
from tfslim.tflite import flatbuffer, upsampling

X = np.random.default_rng(0).normal(size=(1, 4, 5, 3)).astype(np.float32)


def _keras3(size):
    def call(x):
        import keras

        return keras.layers.UpSampling2D(size)(x)

    return call


def _repeat(*axes):
    def call(x):
        import tensorflow as tf

        for axis, times in axes:
            x = tf.repeat(x, times, axis)
        return x

    return call


def _tiled(x):
    import tensorflow as tf

    x = tf.tile(tf.reshape(x, (1, 4, 1, 5, 1, 3)), (1, 1, 2, 1, 3, 1))
    return tf.reshape(x, (1, 8, 15, 3))


def _broadcast(x):
    import tensorflow as tf

    x = tf.reshape(x, (1, 4, 1, 5, 1, 3)) * tf.ones((1, 4, 2, 5, 2, 3))
    return tf.reshape(x, (1, 8, 10, 3))


def _joined(x):
    import tensorflow as tf

    parts = [part for part in tf.split(x, 5, 2) for _ in range(2)]
    return tf.concat(parts, 2)


def _gathered(x):
    import tensorflow as tf

    return tf.gather(x, [0, 0, 1, 1, 2, 2, 3, 3], axis=1)


def _names(content):
    return [op.name for op in tflite.read(content).ops]


def _rewritten(content):
    flat = flatbuffer.unpack(content)
    changed = upsampling.use_resize(flat)
    return flatbuffer.pack(flat), changed


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (_keras3(2), X.shape),
        (_keras3((3, 1)), X.shape),
        (_repeat((1, 2)), X.shape),
        (_repeat((2, 3), (1, 2)), X.shape),
        (_tiled, X.shape),
        (_broadcast, X.shape),
        (_joined, X.shape),
        (_gathered, X.shape),
        (_repeat((1, 4)), (1, 5, 3)),
    ],
)
def test_it_becomes_one_op_and_the_values_stay(call, shape):
    import tensorflow as tf

    content = convert_function(
        lambda x: tf.exp(call(tf.abs(x))), [tf.TensorSpec(shape)]
    )
    done, changed = _rewritten(content)
    names = _names(done)
    assert changed and names.count("RESIZE_NEAREST_NEIGHBOR") == 1
    assert {"RESIZE_NEAREST_NEIGHBOR", "ABS", "EXP", "RESHAPE"} >= set(names)
    assert len(names) == (3 if len(shape) == 4 else 5)
    x = X.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    (truth,), (found,) = (tflite.run(file, x).values() for file in (content, done))
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(
    "name", ["tile", "reversed", "channels", "uneven", "a part is wanted"]
)
def test_what_is_no_upsampling_stays(name):
    import tensorflow as tf

    calls = {
        "tile": lambda x: tf.tile(x, (1, 2, 1, 1)),
        "reversed": lambda x: tf.gather(x, [3, 3, 2, 2, 1, 1, 0, 0], axis=1),
        "channels": lambda x: tf.repeat(x, 2, 3),
        "uneven": lambda x: tf.gather(x, [0, 0, 1, 2, 2, 3], axis=1),
        "a part is wanted": lambda x: tf.transpose(x, (0, 2, 1, 3)),
    }
    call = calls[name]
    content = convert_function(lambda x: tf.exp(call(x)), [tf.TensorSpec(X.shape)])
    done, changed = _rewritten(content)
    assert not changed
    assert sorted(_names(done)) == sorted(_names(content))


def test_what_others_read_on_the_way_stays():
    import tensorflow as tf

    def call(x):
        rows = tf.repeat(tf.abs(x), 2, 1)
        return tf.exp(rows), tf.exp(tf.repeat(rows, 2, 2))

    content = convert_function(call, [tf.TensorSpec(X.shape)])
    done, changed = _rewritten(content)
    assert changed
    assert _names(done).count("RESIZE_NEAREST_NEIGHBOR") == 2
    truth, found = (list(tflite.run(file, X).values()) for file in (content, done))
    for one, other in zip(truth, found, strict=True):
        np.testing.assert_array_equal(one, other)
