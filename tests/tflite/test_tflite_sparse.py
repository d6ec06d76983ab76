import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import tflite
from tfslim.convert import convert_model
from tfslim.tflite import sparse


def _model(zeros):
    random = np.random.default_rng(0)
    x = inputs = tf_keras.Input((6, 6, 20))
    x = tf_keras.layers.Conv2D(300, 1, activation="relu", name="wide")(x)
    x = tf_keras.layers.Conv2D(8, 3, name="spatial")(x)
    x = tf_keras.layers.Flatten()(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(7, name="dense")(x))
    weights = [
        np.where(random.random(w.shape) < zeros, 0.0, w) if w.ndim > 1 else w
        for w in model.get_weights()
    ]
    model.set_weights(weights)
    return model


@pytest.fixture(scope="module")
def pruned():
    return convert_model(_model(0.8)).tflite


def _run(file):
    x = np.random.default_rng(1).normal(size=(1, 6, 6, 20)).astype(np.float32)
    [output] = tflite.run(file, x).values()
    return output


def test_sparse_file_computes_the_same_and_is_smaller(pruned):
    file = tflite.store_sparse(pruned)
    np.testing.assert_array_equal(_run(file), _run(pruned))
    assert len(file) < 0.5 * len(pruned)
    content = tflite.read(file)
    assert [op.name for op in content.ops].count("DENSIFY") == 3
    assert tflite.coverage(file).num_partitions == 1
    before = tflite.read(pruned).graphs[0]
    kernels = [op for op in content.ops if op.name in ("CONV_2D", "FULLY_CONNECTED")]
    others = [op for op in before.ops if op.name in ("CONV_2D", "FULLY_CONNECTED")]
    for op, other in zip(kernels, others, strict=True):
        np.testing.assert_array_equal(
            content.graphs[0].constant(op.inputs[1]), before.constant(other.inputs[1])
        )


def test_dense_again(pruned):
    file = tflite.store_dense(tflite.store_sparse(pruned))
    assert "DENSIFY" not in {op.name for op in tflite.read(file).ops}
    np.testing.assert_array_equal(_run(file), _run(pruned))


def test_files_without_enough_zeros_stay():
    file = convert_model(_model(0.3)).tflite
    assert tflite.store_sparse(file) == file
    assert tflite.store_sparse(file, min_zeros=0.2) != file


@pytest.mark.parametrize("block", [False, True])
def test_what_tensorflow_stores_sparse_is_read(block):
    model = _model(0.0)
    for name in ("wide", "dense"):
        kernel, *bias = model.get_layer(name).get_weights()
        if block:  # Zero in blocks of 1x4: the converter then stores blocks.
            flat = np.moveaxis(kernel, -1, 0).reshape(kernel.shape[-1], -1, 4)
            flat[np.random.default_rng(0).random(flat.shape[:2]) < 0.9] = 0.0
            moved = flat.reshape(kernel.shape[-1], *kernel.shape[:-1])
            kernel = np.moveaxis(moved, 0, -1)
        else:
            kernel = np.where(np.abs(kernel) < np.quantile(abs(kernel), 0.9), 0, kernel)
        model.get_layer(name).set_weights([kernel, *bias])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    graph = tflite.read(converter.convert()).graphs[0]
    found = 0
    for op in graph.ops:
        if op.name not in ("CONV_2D", "FULLY_CONNECTED"):
            continue
        kernel = graph.constant(op.inputs[1])
        name = {(300, 20): "wide", (8, 300): "spatial"}.get(
            (kernel.shape[0], kernel.shape[-1]), "dense"
        )
        truth = np.moveaxis(model.get_layer(name).get_weights()[0], -1, 0)
        np.testing.assert_array_equal(kernel, truth.reshape(kernel.shape))
        producer = graph.producers.get(op.inputs[1])
        index = op.inputs[1] if producer is None else producer.inputs[0]
        found += graph.tensors[index].sparsity is not None
    assert found >= 1


def test_empty_rows_and_wide_indices():
    random = np.random.default_rng(0)
    kernel = random.normal(size=(5, 70_000)).astype(np.float32)
    kernel[1] = 0.0
    kernel[random.random(kernel.shape) < 0.9] = 0.0
    axis = sparse._sparse_axis(kernel != 0)
    parameters = sparse.schema.SparsityParametersT()
    parameters.traversalOrder = [0, 1]
    parameters.dimMetadata = [sparse._dense_axis(5), axis]
    assert axis.arrayIndices.values.dtype == np.int32
    found = sparse.decode(kernel[kernel != 0], parameters, shape=kernel.shape)
    np.testing.assert_array_equal(found, kernel)
