import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import convert, errors, tflite
from tfslim.convert import detour


class _Fake(tf_keras.layers.Layer):
    """Fake quantization to 8 bits in a fixed range."""

    def call(self, x):
        return tf.quantization.fake_quant_with_min_max_args(x, -4.0, 4.0)


def _model(*functions, channels=3):
    x = inputs = tf_keras.Input((4, 4, channels), name="image")
    x = _Fake()(x)
    for function in functions:
        x = _Fake()(function(x))
    return tf_keras.Model(inputs, x)


def _names(file):
    return [op.name for op in tflite.read(file).ops]


@pytest.mark.parametrize(
    ("io", "dtype"), [("float", "float32"), ("int8", "int8"), ("uint8", "uint8")]
)
def test_io(io, dtype):
    model = _model(tf_keras.layers.Conv2D(5, 3, activation="relu"))
    file = convert.convert_quantized(model, io=io, metadata={"a": 1}).tflite
    content = tflite.read(file)
    assert [t.dtype for t in (*content.inputs, *content.outputs)] == [dtype, dtype]
    assert list(content.input_names) == ["image"]
    assert tflite.coverage(file).is_whole or io == "uint8"
    x = np.random.default_rng(0).uniform(-3, 3, (1, 4, 4, 3)).astype(np.float32)
    truth = model(x).numpy()
    if io == "float":
        [found] = tflite.run(file, x).values()
    else:
        source = content.inputs[0].quantization
        result = content.outputs[0].quantization
        stored = np.round(x / source.scale + source.zero_point).astype(dtype)
        [found] = tflite.run(file, stored).values()
        found = (found.astype(np.float32) - result.zero_point) * result.scale
    np.testing.assert_allclose(found, truth, atol=8 / 255 * 1.5)


def test_float_model_is_refused():
    inputs = tf_keras.Input((4, 4, 3))
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(2, 1)(inputs))
    with pytest.raises(errors.ConversionError, match="no fake quantization"):
        convert.convert_quantized(model)


def test_what_is_no_model_is_refused_in_one_line():
    class Result:
        model = None

        def __str__(self):
            return "Trained with 8-bit weights: 2 layers\n  conv: INT8\n  head: INT8"

    for make in (convert.convert_quantized, convert.convert_model):
        with pytest.raises(errors.ConfigError, match="got a Result") as raised:
            make(Result())
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 150


def test_unknown_io():
    with pytest.raises(errors.ConfigError, match="Did you mean 'int8'"):
        convert.convert_quantized(_model(tf.nn.relu), io="int16")


DETOURS = {
    "AVERAGE_POOL_2D": tf_keras.layers.AveragePooling2D(),
    "GELU": tf.nn.gelu,
    "HARD_SWISH": lambda x: x * tf.nn.relu6(x + 3.0) * (1 / 6),
    "PRELU": lambda x: tf_keras.layers.PReLU(
        alpha_initializer=tf_keras.initializers.Constant(0.3), shared_axes=[1, 2]
    )(x),
    "SOFTMAX": tf.nn.softmax,
}


@pytest.mark.parametrize("name", DETOURS)
def test_ops_that_xnnpack_has_in_float_only(name, monkeypatch):
    model = _model(
        tf_keras.layers.Conv2D(4, 1), DETOURS[name], tf_keras.layers.Conv2D(4, 1)
    )
    file = convert.convert_quantized(model).tflite
    assert tflite.coverage(file).is_whole
    monkeypatch.setattr(detour, "FLOAT_ONLY", ())
    without = convert.convert_quantized(model).tflite
    outside = [op.name for op in tflite.coverage(without).outside]
    assert outside == [name]
    x = np.random.default_rng(0).uniform(-3, 3, (1, 4, 4, 3)).astype(np.float32)
    [found] = tflite.run(file, x).values()
    np.testing.assert_allclose(found, model(x), atol=8 / 255 * 2.01)


def test_last_op_is_not_rounded_on_its_way_to_a_float_output():
    inputs = tf_keras.Input((7,))
    x = _Fake()(tf_keras.layers.Dense(300)(_Fake()(inputs)))
    model = tf_keras.Model(inputs, tf.nn.softmax(x))
    file = convert.convert_quantized(model).tflite
    assert _names(file)[-2:] == ["DEQUANTIZE", "SOFTMAX"]
    x = np.random.default_rng(0).uniform(-3, 3, (1, 7)).astype(np.float32)
    [found] = tflite.run(file, x).values()
    assert 0 < found.max() < 0.5
    # Steps of 1/256 would leave zeros alone.
    np.testing.assert_allclose(found, model(x), rtol=0.1)
