"""Ops that LiteRT lacks are spelled in those that it has."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import tflite

ops = keras.ops
# Function of a tensor -> the truth by numpy.
CALLS = {
    "arcsin": (ops.arcsin, np.arcsin),
    "arccos": (ops.arccos, np.arccos),
    "arctan": (ops.arctan, np.arctan),
    "arcsinh": (ops.arcsinh, np.arcsinh),
    "arctanh": (ops.arctanh, np.arctanh),
    "sinh": (ops.sinh, np.sinh),
    "cosh": (ops.cosh, np.cosh),
    "tan": (ops.tan, np.tan),
    "arccosh": (lambda x: ops.arccosh(x + 2.0), lambda x: np.arccosh(x + 2)),
    "argmax": (ops.argmax, lambda x: np.argmax(x)[None]),
    "argmin": (lambda x: ops.argmin(x, -1), lambda x: np.argmin(x, -1)),
    "signbit": (ops.signbit, np.signbit),
    "searchsorted": (
        lambda x: ops.searchsorted(np.float32([-0.5, 0, 0.5]), ops.reshape(x, (9,))),
        lambda x: np.searchsorted([-0.5, 0, 0.5], x[0]),
    ),
    "cross": (
        lambda x: ops.cross(x[:, :3], x[:, 3:6]),
        lambda x: np.cross(x[:, :3], x[:, 3:6]),
    ),
    "shifts": (
        lambda x: ops.right_shift(ops.cast(x * 50.0, "int32"), 2),
        lambda x: (x * 50).astype(np.int32) >> 2,
    ),
}
X = np.float32([[-0.9, -0.71, -0.3, -0.02, 0.11, 0.2, 0.5, 0.83, 0.97]])


@pytest.mark.parametrize("name", CALLS)
def test_file_gives_what_numpy_gives(name):
    function, truth = CALLS[name]
    x = keras.Input((9,), batch_size=1, name="x")
    y = ops.cast(function(x * 1.0), "float32")
    done = tfslim.convert_model(keras.Model(x, y))
    [found] = tflite.Runner(done.tflite)({"x": X}).values()
    np.testing.assert_allclose(found, truth(X), rtol=2e-6, atol=2e-6)


def test_error_function_where_it_is_no_gelu():
    """math.erf of Python is the truth; a GELU beside it stays one op."""
    import math

    x = tf_keras.Input((9,), name="x")
    y = tf_keras.layers.Concatenate()([tf.math.erf(x), tf.math.erfc(x)])
    [found] = tflite.Runner(tfslim.convert_model(tf_keras.Model(x, y)).tflite)(
        {"x": X}
    ).values()
    wanted = [*map(math.erf, X[0]), *map(math.erfc, X[0])]
    np.testing.assert_allclose(found[0], wanted, atol=5e-7)
    gelu = tf_keras.Model(x, tf_keras.activations.gelu(x))
    names = [op.name for op in tflite.read(tfslim.convert_model(gelu).tflite).ops]
    assert names == ["GELU"]


@pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("kind", ["Average", "Max"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pooling_of_volumes(k, kind, padding):
    x = k.Input((5, 7, 6, 2), name="x")
    layer = getattr(k.layers, f"{kind}Pooling3D")
    y = layer((2, 3, 2), strides=(2, 1, 3), padding=padding)(x)
    model = k.Model(x, y)
    volume = np.random.default_rng(0).normal(size=(1, 5, 7, 6, 2)).astype(np.float32)
    [found] = tflite.Runner(tfslim.convert_model(model).tflite)({"x": volume}).values()
    np.testing.assert_allclose(found, model(volume), atol=1e-6)


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
def test_category_encoding(mode):
    x = keras.Input((4,), dtype="int32", name="x")
    y = keras.layers.CategoryEncoding(5, output_mode=mode)(x)
    done = tfslim.convert_model(keras.Model(x, y))
    [found] = tflite.Runner(done.tflite)({"x": np.int32([[1, 3, 3, 0]])}).values()
    assert found.tolist() == [[1, 1, 0, 1 if mode == "multi_hot" else 2, 0]]


def test_what_has_no_formula_is_named():
    x = keras.Input((3, 3), name="x")
    with pytest.raises(tfslim.TfslimError, match="No TFLite builtin for: MatrixInv"):
        tfslim.convert_model(keras.Model(x, ops.inv(ops.arcsin(x))))
