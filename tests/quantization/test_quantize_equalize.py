"""Equalization keeps the function and mends the ranges; bias correction the means."""

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tasks, tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import calibrate, correct_biases, equalize

SHAPE = (1, 16, 16, 3)


def images(count=40, seed=0):
    return small_models.samples(SHAPE, count=count, seed=seed)


def chain(padding="same", activation="relu", wound=1.0):
    """Conv, depthwise, pooling, conv, flatten, dense; a few channels `wound` larger."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    bias = tf_keras.initializers.RandomUniform(-0.2, 0.4, seed=1)
    options = {"activation": activation, "bias_initializer": bias}
    x = inputs = tf_keras.Input(SHAPE[1:], batch_size=1)
    x = layers.Conv2D(8, 3, padding=padding, name="first", **options)(x)
    x = layers.DepthwiseConv2D(
        3, padding=padding, depth_multiplier=2, name="second", **options
    )(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(12, 3, padding=padding, name="third", **options)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, name="fourth", **options)(x)
    x = layers.Dense(5, name="logits", bias_initializer=bias)(x)
    model = tf_keras.Model(inputs, x)
    scale = np.ones(8, np.float32)
    scale[[1, 5]] = wound
    first, second = model.get_layer("first"), model.get_layer("second")
    first.set_weights([w * scale for w in first.get_weights()])
    kernel, offset = second.get_weights()
    second.set_weights([kernel / scale[:, None], offset])
    scale = np.ones(12, np.float32)
    scale[3] = wound
    third, fourth = model.get_layer("third"), model.get_layer("fourth")
    third.set_weights([w * scale for w in third.get_weights()])
    kernel, offset = fourth.get_weights()
    fourth.set_weights([kernel / np.resize(scale, len(kernel))[:, None], offset])
    return small_models.convert(model)


def noise_db(truth_of, model, xs):
    pairs = zip(
        compare_files.outputs(truth_of, xs)[0],
        compare_files.outputs(model, xs)[0],
        strict=True,
    )
    return np.mean([tasks.sqnr_db(*pair) for pair in pairs])


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("with_samples", [True, False])
@pytest.mark.parametrize("wound", [1.0, 100.0])
def test_the_function_stays(padding, with_samples, wound):
    model = chain(padding, wound=wound)
    xs = images()
    done = equalize(model, xs if with_samples else None)
    assert len(done.equalized) == 4
    assert done.tflite != model
    assert noise_db(model, done.tflite, xs) > 100


@pytest.mark.parametrize("with_samples", [True, False])
def test_rescaled_relu_channels_are_mended(with_samples):
    model = chain(wound=100.0)
    xs, held_out = images(), images(seed=1)
    plain = quantize_tflite(model, "int8", samples=xs).tflite
    mended = equalize(model, xs if with_samples else None)
    assert max(row.largest for row in mended.equalized) > 5
    file = quantize_tflite(mended.tflite, "int8", samples=xs).tflite
    assert noise_db(model, file, held_out) > noise_db(model, plain, held_out) + 10


def test_a_pair_by_hand():
    """Two dense layers: first rows 8 and 2, second columns 2 and 2."""
    import tf_keras
    from tf_keras import layers

    x = inputs = tf_keras.Input((2,), batch_size=1)
    x = layers.Dense(2, activation="relu", name="a")(x)
    model = tf_keras.Model(inputs, layers.Dense(1, name="b")(x))
    model.set_weights(
        [
            np.float32([[8, 0], [0, 2]]),
            np.float32([4, 1]),
            np.float32([[2], [2]]),
            np.float32([0]),
        ]
    )
    done = equalize(small_models.convert(model))
    graph = tflite.read(done.tflite).graphs[0]
    first, second = (
        [graph.tensors[i].data for i in op.inputs[1:3] if i >= 0] for op in graph.ops
    )
    # sqrt(8 / 2) = 2 and sqrt(2 / 2) = 1, both over their median 1.5, then again
    # until both channels have equal products: the ratio of the two factors is 2.
    ratio = first[0][0, 0] / first[0][1, 1]
    assert ratio == pytest.approx(8 / 2 / 2, rel=1e-2)
    assert second[0][0, 0] / second[0][0, 1] == pytest.approx(2, rel=1e-2)
    assert first[1][0] / first[1][1] == pytest.approx(4 / 1 / 2, rel=1e-2)


def test_what_cannot_be_scaled_is_left_alone_with_the_reason(residual, mobile):
    done = equalize(residual)
    reasons = {row.tensor.split(";")[0]: row.reason for row in done.refused}
    texts = " ".join(reasons.values())
    assert "RELU6 has a fixed limit" in texts
    assert "ADD does not scale" in texts
    assert "output of the model" in texts
    (row,) = done.equalized
    assert "depthwise" in row.first and "project" in row.second
    assert any("read by" in row.reason for row in equalize(mobile).refused)


def test_a_constant_part_is_absorbed_where_that_is_exact():
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    x = inputs = tf_keras.Input(SHAPE[1:], batch_size=1)
    x = layers.Conv2D(4, 1, activation="relu", name="a")(x)
    model = tf_keras.Model(inputs, layers.Conv2D(6, 3, name="b")(x))
    kernel, _ = model.get_layer("a").get_weights()
    model.get_layer("a").set_weights([kernel, np.float32([50, 60, 0, 70])])
    file = small_models.convert(model)
    xs = images()
    done = equalize(file, xs)
    assert done.equalized[0].absorbed == 3
    assert noise_db(file, done.tflite, xs) > 90
    name = done.equalized[0].first
    assert calibrate(file, xs).ranges[name][1] > 70
    assert calibrate(done.tflite, xs).ranges[name][1] < 40
    # Samples of a wider span than any that was seen.
    centre = np.mean(xs, axis=0)
    wider = [centre + 1.4 * (x - centre) for x in images(seed=1)]
    assert noise_db(file, done.tflite, wider) > 90


def test_pixels_folded_into_the_channels_of_a_depthwise_layer():
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    x = inputs = tf_keras.Input((4, 4, 3), batch_size=1)
    x = layers.Conv2D(5, 1, activation="relu")(x)
    x = layers.Reshape((4, 2, 10))(x)
    x = layers.DepthwiseConv2D(2, activation="relu")(x)
    file = small_models.convert(tf_keras.Model(inputs, layers.Conv2D(2, 1)(x)))
    xs = small_models.samples((1, 4, 4, 3))
    done = equalize(file, xs)
    assert noise_db(file, done.tflite, xs) > 100
    assert "depthwise convolution reads it in another" in str(done.refused)
    assert len(done.equalized) == 1


@pytest.mark.parametrize("mode", ["fast", "full"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_bias_correction_brings_the_means_back(mode, padding):
    model = chain(padding)
    xs = images(60)
    plain = quantize_tflite(model, "int8", samples=xs).tflite
    # Weights as if they had been rounded much more coarsely.
    coarse = _coarser(plain)
    fixed, rows = correct_biases(coarse, model, samples=xs, mode=mode)
    assert len(rows) == 5
    truth = np.mean(compare_files.outputs(model, xs)[0], axis=0)
    before, after = (
        np.abs(np.mean(compare_files.outputs(m, xs)[0], axis=0) - truth).max()
        for m in (coarse, fixed)
    )
    assert after < 0.35 * before
    assert noise_db(model, fixed, images(seed=1)) > noise_db(
        model, coarse, images(seed=1)
    )


def _coarser(file):
    """Rounds every INT8 weight down to a multiple of 16: a shift of 7.5 steps."""
    from tfslim.tflite import flatbuffer

    flat = flatbuffer.unpack(file)
    model = tflite.read(file)
    for op in model.ops:
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            tensor = model.tensors[op.inputs[1]]
            values = (tensor.data // 16 * 16).astype(np.int8)
            buffer = flat.subgraphs[0].tensors[tensor.index].buffer
            flat.buffers[buffer].data = values.reshape(-1).view(np.uint8)
    return flatbuffer.pack(flat)


def test_bias_correction_by_hand():
    """One dense layer of one weight 1 that became 127 / 127 = 1, and input 0.5."""
    import tf_keras
    from tf_keras import layers

    inputs = tf_keras.Input((2,), batch_size=1)
    model = tf_keras.Model(inputs, layers.Dense(1, name="a")(inputs))
    model.set_weights([np.float32([[1.0], [0.3]]), np.float32([0.25])])
    file = small_models.convert(model)
    xs = [np.float32([[0.0, 1.0]]), np.float32([[1.0, 1.0]])]
    plain = quantize_tflite(file, "int8", samples=xs).tflite
    fixed, (row,) = correct_biases(plain, file, samples=xs, mode="fast")
    # 0.3 is 38.1 steps of 1/127: the error is 38/127 - 0.3 for an input of mean 1.
    shift = 38 / 127 - 0.3
    assert row.largest == pytest.approx(abs(shift), rel=1e-4)
    tensors = [
        next(t for t in tflite.read(m).tensors if t.dtype == "int32")
        for m in (plain, fixed)
    ]
    scale = tensors[0].quantization.scale[0]
    moved = int(tensors[1].data[0]) - int(tensors[0].data[0])
    assert abs(moved + shift / scale) <= 1


def test_constants_that_ops_share_are_changed_for_one_alone():
    import tf_keras
    from tf_keras import layers

    x = inputs = tf_keras.Input((4,), batch_size=1)
    tf_keras.utils.set_random_seed(0)
    for _ in range(3):  # Equal weights and biases: the converter keeps one of each.
        x = layers.Dense(
            4,
            "relu",
            kernel_initializer=tf_keras.initializers.RandomUniform(0, 1, seed=1),
            bias_initializer="ones",
        )(x)
    model = small_models.convert(tf_keras.Model(inputs, layers.Dense(2)(x)))
    ops = tflite.read(model).ops
    assert ops[0].inputs[2] == ops[1].inputs[2]
    xs = small_models.samples((1, 4), count=30)
    done = equalize(model)
    assert len(done.equalized) == 3
    assert noise_db(model, done.tflite, xs) > 100
    plain = quantize_tflite(model, "int8", samples=xs).tflite
    fixed, rows = correct_biases(plain, model, samples=xs)
    assert len(rows) == 3
    assert noise_db(model, fixed, xs) > noise_db(model, plain, xs) - 0.5


def test_a_wrong_mode_says_so(residual):
    with pytest.raises(errors.ConfigError, match="Unknown bias correction"):
        correct_biases(residual, residual, samples=[], mode="fats")
