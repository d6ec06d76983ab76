"""Conversion against Keras itself, on tiny models of both Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import convert, errors, quiet, tflite
from tfslim.tflite import metadata

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _randomize(model, seed=0):
    random = np.random.default_rng(seed)
    model.set_weights(
        [random.uniform(0.1, 1, w.shape).astype(w.dtype) for w in model.get_weights()]
    )
    return model


def _conv_model(k, **options):
    inputs = k.Input((8, 8, 3), name="image")
    x = k.layers.Conv2D(4, 3, padding="same", use_bias=False, name="c")(inputs)
    x = k.layers.BatchNormalization(name="bn")(x)
    x = k.layers.ReLU(6.0, name="act")(x)
    x = k.layers.Dropout(0.5)(x)
    x = k.layers.GlobalAveragePooling2D()(x)
    x = k.layers.Dense(5, name="scores", **options)(x)
    return _randomize(k.Model(inputs, x, name="small"))


def _check(model, result, inputs):
    expected = model(inputs, training=False)
    expected = expected if isinstance(expected, list | tuple) else [expected]
    named = inputs
    if isinstance(inputs, list):
        names = [t.name for t in model.inputs]
        named = dict(zip(names, inputs, strict=True))
    got = tflite.run(result.tflite, named)
    for want, have in zip(expected, got.values(), strict=True):
        np.testing.assert_allclose(have, np.asarray(want), rtol=1e-4, atol=1e-5)
    return got


@BOTH
def test_equals_keras_with_batch_norm_folded_and_activation_fused(k, capfd):
    model = _conv_model(k)
    result = convert.convert_model(model)
    x = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    assert list(_check(model, result, x)) == ["scores"]
    content = tflite.read(result.tflite)
    assert [op.name for op in content.ops] == ["CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert list(content.input_names) == ["image"]
    assert content.inputs[0].shape == (1, 8, 8, 3)
    assert content.signatures[0].key == "serving_default"
    assert result.flex_ops == ()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "converter" not in captured.err.lower()


@BOTH
def test_two_inputs_and_two_outputs_keep_their_order(k):
    a, b = k.Input((4,), name="first"), k.Input((6,), name="second")
    total = k.layers.Add(name="total")([k.layers.Dense(3)(a), k.layers.Dense(3)(b)])
    wide = k.layers.Dense(7, name="wide")(b)
    model = _randomize(k.Model([a, b], [wide, total]))
    random = np.random.default_rng(0)
    x = [random.normal(size=(1, n)).astype(np.float32) for n in (4, 6)]
    result = convert.convert_model(model)
    assert list(_check(model, result, x)) == ["wide", "total"]


def test_metadata_and_batch_size():
    result = convert.convert_model(
        _conv_model(tf_keras), batch_size=3, metadata={"labels": ["a", "ö"]}
    )
    assert metadata.get_json(result.tflite) == {"labels": ["a", "ö"]}
    assert tflite.read(result.tflite).inputs[0].shape == (3, 8, 8, 3)


def test_open_shape_must_be_given():
    inputs = tf_keras.Input((None, None, 3), name="image")
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(2, 3)(inputs))
    with pytest.raises(errors.ConfigError, match=r"'image' has the open shape.*e\.g\."):
        convert.convert_model(model)
    result = convert.convert_model(model, input_shapes={"image": (10, 12, 3)})
    assert tflite.read(result.tflite).outputs[0].shape == (1, 8, 10, 2)
    with pytest.raises(errors.ConfigError, match=r"'photo'.*no input.*image"):
        convert.convert_model(model, input_shapes={"photo": (10, 12, 3)})


class _NoBuiltin(tf_keras.layers.Layer):
    def call(self, x):
        return tf.linalg.det(tf.reshape(x, (1, 2, 2)))


def test_op_without_builtin_names_its_layer(capfd):
    inputs = tf_keras.Input((4,))
    x = _NoBuiltin(name="odd_one")(tf_keras.layers.Dense(4)(inputs))
    model = tf_keras.Model(inputs, x)
    with (
        quiet.in_command(),
        pytest.raises(
            errors.ConversionError, match=r"MatrixDeterminant.*'odd_one'"
        ) as caught,
    ):
        convert.convert_model(model)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert convert.convert_model(model, allow_flex=True).flex_ops == (
        "FlexMatrixDeterminant",
    )


class _Dynamic(tf_keras.layers.Layer):
    def call(self, x):
        return tf.boolean_mask(x, x > 0)


def test_size_known_only_at_run_time_is_refused():
    inputs = tf_keras.Input((4,))
    model = tf_keras.Model(inputs, _Dynamic()(inputs))
    with pytest.raises(errors.ConversionError, match="only at run time"):
        convert.convert_model(model)


def test_open_models_are_refused():
    unbuilt = tf_keras.Sequential([tf_keras.layers.Dense(3)])
    with pytest.raises(errors.ConversionError, match="no fixed inputs"):
        convert.convert_model(unbuilt)


@BOTH
def test_large_matrices_take_the_detour_and_come_back(k):
    """Two equal shapes, and square: neither order nor transposition may be wrong."""
    inputs = k.Input((1024,), name="x")
    x = k.layers.Dense(1024, activation="relu", name="a")(inputs)
    x = k.layers.Dense(1024, name="b")(x)
    model = k.Model(inputs, x)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape) / 32 for w in model.get_weights()])
    result = convert.convert_model(model)
    x = random.normal(size=(1, 1024)).astype(np.float32)
    _check(model, result, x)


def test_matrix_that_the_converter_changes_is_not_detached():
    """Batch norm is folded into the kernel: its stand-in does not come through."""
    inputs = tf_keras.Input((1024,), name="x")
    x = tf_keras.layers.Dense(1024, use_bias=False)(inputs)
    x = tf_keras.layers.BatchNormalization()(x)
    model = _randomize(tf_keras.Model(inputs, x))
    x = np.random.default_rng(0).normal(size=(1, 1024)).astype(np.float32)
    expected = np.asarray(model(x, training=False))
    [found] = tflite.run(convert.convert_model(model).tflite, x).values()
    assert np.abs(found - expected).max() < 1e-5 * np.ptp(expected)


@BOTH
def test_fixed_batch_of_the_model_is_that_of_the_file(k):
    inputs = k.Input(batch_shape=(2, 8)) if k is keras else k.Input((8,), 2)
    model = k.Model(inputs, k.layers.Dense(3)(inputs))
    assert tflite.read(convert.convert_model(model).tflite).inputs[0].shape == (2, 8)
    one = convert.convert_model(
        k.Model(i := k.Input((8,)), k.layers.Dense(3)(i)), batch_size=4
    )
    assert tflite.read(one.tflite).inputs[0].shape == (4, 8)


@BOTH
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_inputs_of_a_dict_keep_their_names(k):
    # Not in the order of the alphabet, and of different sizes.
    a, b = k.Input((4,), name="zeta"), k.Input((3,), name="alpha")
    hidden = k.layers.Concatenate()([a, k.layers.Dense(5)(b)])
    model = k.Model({"zeta": a, "alpha": b}, k.layers.Dense(3)(hidden))
    random = np.random.default_rng(0)
    x = {"zeta": random.normal(size=(1, 4)), "alpha": random.normal(size=(1, 3))}
    x = {name: value.astype(np.float32) for name, value in x.items()}
    [found] = tflite.run(convert.convert_model(model).tflite, x).values()
    np.testing.assert_allclose(found, model(x), atol=1e-6)


@pytest.mark.parametrize("name", ["Conv 1", "dense:out", "a=b;c", "_", "слой_😀"])
def test_names_that_tensorflow_does_not_take(name):
    block = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name=name)], name=f"{name} block"
    )
    inputs = keras.Input((4,), name="in")
    model = keras.Model(inputs, keras.layers.Dense(3, name=f"{name} 2")(block(inputs)))
    done = convert.convert_model(model)
    assert f"'{name} 2' -> '" in done.notes[0]
    x = np.ones((1, 4), np.float32)
    found = tflite.run(done.tflite, x)
    assert list(found) == [f"{name} 2"]  # The signature keeps it.
    np.testing.assert_allclose(found[f"{name} 2"], model(x), atol=1e-6)
    assert model.layers[-1].name == f"{name} 2"


def test_model_that_cannot_be_traced_is_told_in_a_line():
    class Bad(tf_keras.layers.Layer):
        def call(self, x):
            if x.shape[0] == 1:
                raise ValueError("not one sample")
            return x

    inputs = tf_keras.Input((4,))
    with pytest.raises(errors.ConversionError, match="not one sample") as caught:
        convert.convert_model(tf_keras.Model(inputs, Bad()(inputs)))
    assert "\n" not in str(caught.value)
