"""Files with the quirks of old or foreign converters quantize like clean ones."""

import numpy as np
import pytest
import small_models
from ai_edge_litert import schema_py_generated as schema

from tfslim import errors, quantize_tflite, tflite
from tfslim.quantization import quantize_accurately
from tfslim.quantization.rules import preprocess_model
from tfslim.tflite import flatbuffer


def _same_names(flat):
    for tensor in flat.subgraphs[0].tensors:
        tensor.name = b"t"


def _no_names(flat):
    for tensor in flat.subgraphs[0].tensors:
        tensor.name = None


def _old_codes(flat):
    for code in flat.operatorCodes:
        code.builtinCode = 0


def _traces_of_training(flat):
    for tensor in flat.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.FLOAT32:
            tensor.quantization = schema.QuantizationParametersT(
                scale=[0.5], zeroPoint=[3]
            )


def _no_signature(flat):
    flat.signatureDefs = None


@pytest.mark.parametrize(
    "quirk", [_same_names, _no_names, _old_codes, _traces_of_training, _no_signature]
)
@pytest.mark.parametrize("recipe", ["int8", "dynamic_int8", "float16"])
def test_a_quirk_changes_nothing(residual, quirk, recipe):
    flat = flatbuffer.unpack(residual)
    quirk(flat)
    odd = flatbuffer.pack(flat)
    assert odd != residual
    xs = small_models.samples((1, 12, 12, 3))
    truth, found = (
        tflite.Runner(quantize_tflite(model, recipe, samples=xs).tflite)
        for model in (residual, odd)
    )
    assert [op.name for op in truth.model.ops] == [op.name for op in found.model.ops]
    for x in xs:
        (a,), (b,) = truth(x).values(), found(x).values()
        np.testing.assert_array_equal(a, b)


def test_a_clean_file_is_not_copied(residual):
    assert preprocess_model.prepare(residual) is residual


def test_half_precision_weights_become_whole(residual):
    halves = quantize_tflite(residual, "float16").tflite
    assert "float16" in {t.dtype for t in tflite.read(halves).tensors}
    whole = preprocess_model.prepare(halves)
    ops = [[op.name for op in tflite.read(m).ops] for m in (residual, whole)]
    assert ops[0] == ops[1]
    xs = small_models.samples((1, 12, 12, 3))
    for x in xs:
        (a,), (b,) = (tflite.run(m, x).values() for m in (halves, whole))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    done = quantize_tflite(halves, "int8", samples=xs)
    dtypes = {t.dtype for t in tflite.read(done.tflite).tensors if t.is_constant}
    assert dtypes == {"int8", "int32"}
    # Nothing of the halves is left in the file.
    direct = quantize_tflite(residual, "int8", samples=xs)
    assert _num_constant_bytes(whole) == _num_constant_bytes(residual)
    assert _num_constant_bytes(done.tflite) == _num_constant_bytes(direct.tflite)


def _num_constant_bytes(file):
    sizes = {
        index: len(buffer.data)
        for index, buffer in enumerate(flatbuffer.unpack(file).buffers)
        if buffer.data is not None
    }
    flat = flatbuffer.unpack(file)
    for entry in flat.metadata or []:
        sizes.pop(entry.buffer, None)
    return sum(sizes.values())


def test_other_half_precision_is_refused(residual):
    flat = flatbuffer.unpack(residual)
    tensor = next(
        t for t in flat.subgraphs[0].tensors if flat.buffers[t.buffer].data is not None
    )
    tensor.type = schema.TensorType.BFLOAT16
    with pytest.raises(errors.QuantizationError, match="is bfloat16"):
        quantize_tflite(flatbuffer.pack(flat), "dynamic_int8")


def test_control_flow_is_refused_for_static_and_done_for_dynamic():
    import tensorflow as tf

    kernel = tf.constant(np.random.default_rng(0).normal(size=(64, 64)), tf.float32)
    model = small_models.convert_function(
        lambda x: tf.while_loop(
            lambda y: tf.reduce_sum(y) < 1.0, lambda y: (tf.nn.relu(y @ kernel),), (x,)
        )[0],
        [tf.TensorSpec((1, 64), tf.float32)],
    )
    assert len(tflite.read(model).graphs) > 1
    xs = small_models.samples((1, 64))
    with pytest.raises(errors.QuantizationError, match="Use 'dynamic_int8'"):
        quantize_tflite(model, "int8", samples=xs)
    quantize_tflite(model, "dynamic_int8")
    done = quantize_accurately(model, "dynamic_int8", samples=xs)
    assert done.steps["plain"] > 20


@pytest.mark.parametrize("recipe", ["int8", "dynamic_int8"])
def test_sparse_halves_are_unpacked(recipe):
    """As MediaPipe's files: DENSIFY, then DEQUANTIZE, before a convolution."""
    import tensorflow as tf
    import tf_keras

    random = np.random.default_rng(0)
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((6, 6, 16))
    for width in (32, 8):
        x = layers.Conv2D(width, 1, activation="relu")(x)
    model = tf_keras.Model(inputs, x)
    for layer in model.layers[1:]:
        kernel, bias = layer.get_weights()
        keep = random.random((kernel.shape[2] // 4, kernel.shape[3])) < 0.3
        layer.set_weights([kernel * np.repeat(keep, 4, 0), bias])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [
        tf.lite.Optimize.DEFAULT,
        tf.lite.Optimize.EXPERIMENTAL_SPARSITY,
    ]
    converter.target_spec.supported_types = [tf.float16]
    given = converter.convert()
    assert {op.name for op in tflite.read(given).ops} >= {"DENSIFY", "DEQUANTIZE"}
    samples = small_models.samples((1, 6, 6, 16))
    done = quantize_tflite(given, recipe, samples=samples if recipe == "int8" else None)
    names = [op.name for op in tflite.read(done.tflite).ops]
    assert "DENSIFY" not in names and not done.kept_float
    truth = np.asarray(model(samples[0]))
    (found,) = tflite.run(done.tflite, samples[0]).values()
    np.testing.assert_allclose(found, truth, atol=0.05 * truth.max())


def test_no_float_between_the_convolutions_of_the_converter():
    """EXPAND_DIMS and SHAPE, as TFLiteConverter writes them around a Conv1D."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    x = inputs = keras.Input((12, 4))
    for _ in range(2):
        x = layers.MaxPooling1D()(layers.Conv1D(8, 3, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    given = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    assert {op.name for op in tflite.read(given).ops} >= {"EXPAND_DIMS", "SHAPE"}
    done = quantize_tflite(given, "int8", samples=small_models.samples((1, 12, 4)))
    graph = tflite.read(done.tflite).graphs[0]
    outputs = [graph.tensors[i] for op in graph.ops for i in op.outputs]
    assert [t.name for t in outputs if t.dtype == "float32"] == [graph.outputs[0].name]


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_ends_keep_their_names(io, residual):
    xs = small_models.samples(tflite.read(residual).inputs[0].shape)
    done = quantize_tflite(residual, "int8", samples=xs, io=io)
    before, after = (tflite.read(model) for model in (residual, done.tflite))
    for ends in ("inputs", "outputs"):
        names = [[t.name for t in getattr(model, ends)] for model in (before, after)]
        assert names[0] == names[1]
    assert len({tensor.name for tensor in after.tensors}) == len(after.tensors)
