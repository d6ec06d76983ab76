"""GPTQ against hand calculation and brute force; what it does to whole files."""

import itertools

import numpy as np
import pytest
import small_models
from test_quantize_collect import Everything
from test_quantize_equalize import chain

from tfslim import errors, ops, quantize_tflite, tasks, tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import (
    Options,
    correct_biases,
    quantize_accurately,
    round_weights,
)
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.ranges.collect import collect
from tfslim.quantization.repair import gptq, rounding, weights

SHAPE = (1, 16, 16, 3)


def images(count=40, seed=0):
    """Smooth: neighbouring pixels are alike, as in photos."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.3, 1.0, (count, 1, 4, 4, 3))
    fine = coarse.repeat(4, axis=2).repeat(4, axis=3)
    return list((fine + 0.1 * rng.normal(size=(count, *SHAPE))).astype(np.float32))


def error(difference, matrix):
    return np.einsum("gri,gij,grj->gr", difference, matrix, difference)


def test_two_weights_by_hand():
    # 0.4 goes to 0; its twin takes up 0.9 of that error: 0.76 goes to 1.
    matrix = np.array([[[1.0, 0.9], [0.9, 0.9999]]])
    row, scale = np.array([[[0.4, 0.4]]], np.float32), np.ones((1, 1, 1), np.float32)
    np.testing.assert_array_equal(
        gptq.gptq(row, scale, matrix=matrix, most=7), [[[0, 1]]]
    )
    # Of inputs that have nothing in common every one is for itself.
    np.testing.assert_array_equal(
        gptq.gptq(row, scale, matrix=np.eye(2)[None], most=7), [[[0, 0]]]
    )


def test_it_comes_close_to_the_best_of_all_roundings():
    rng = np.random.default_rng(0)
    groups, rows, width = 3, 20, 5
    inputs = rng.normal(size=(groups, 40, width)) @ rng.normal(size=(width, width))
    matrix = inputs.transpose(0, 2, 1) @ inputs / 40
    row = rng.uniform(-2.4, 2.4, (groups, rows, width)).astype(np.float32)
    scale = np.full((groups, rows, 1), 1.0, np.float32)
    candidates = np.array(list(itertools.product(range(-2, 3), repeat=width)))
    least = [
        [error((c - w)[None, None], h[None])[0, 0] for c in candidates]
        for group, h in zip(row, matrix, strict=True)
        for w in group
    ]
    best = np.mean(np.min(least, axis=1))
    nearest = error(np.clip(np.rint(row), -2, 2) - row, matrix).mean()
    found = error(gptq.gptq(row, scale, matrix=matrix, most=2) - row, matrix).mean()
    assert best <= found < best + 0.35 * (nearest - best)


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 100, 30)) @ rng.normal(size=(30, 30))
    matrix = inputs.transpose(0, 2, 1) @ inputs
    row = rng.normal(size=(2, 4, 30)).astype(np.float32)
    scale = np.full((2, 4, 1), 0.2, np.float32)
    whole = gptq.gptq(row, scale, matrix=matrix, most=127)
    monkeypatch.setattr(gptq, "_BLOCK", 7)
    np.testing.assert_array_equal(gptq.gptq(row, scale, matrix=matrix, most=127), whole)


def test_silent_inputs_are_rounded_to_nearest():
    row = np.array([[[0.3, 0.8, -1.7]]], np.float32)
    scale = np.ones((1, 1, 1), np.float32)
    found = gptq.gptq(row, scale, matrix=np.zeros((1, 3, 3)), most=7)
    np.testing.assert_array_equal(found, [[[0, 1, -2]]])


def test_the_best_scale_clips_an_outlier():
    # One large weight nobody reads: 7 levels go to the others.
    row = np.array([[[7.0, 0.31, -0.62, 0.95]]], np.float32)
    matrix = np.diag([1e-6, 1.0, 1.0, 1.0])[None]
    found = gptq.best_scale(row, matrix, most=7)
    tried = np.linspace(1.0, 0.4, 25)

    def loss(s):
        return error(np.clip(np.rint(row / s), -7, 7) * s - row, matrix)[0, 0]

    assert found[0, 0, 0] == pytest.approx(min(tried, key=loss))
    assert found[0, 0, 0] < 0.5


def test_four_bits_are_packed_low_first():
    values = np.array([1, -2, 7, -8, -1], np.int8)
    packed = weights.pack_int4(values)
    np.testing.assert_array_equal(packed, [0xE1, 0x87, 0x0F])
    tensor = tflite.Tensor(0, "w", (5,), (5,), "int4", None, packed, False)
    np.testing.assert_array_equal(weights.unpack_int4(tensor), values)


def geometry(build):
    from tf_keras import Input, Model

    inputs = Input((9, 11, 4), batch_size=1)
    return small_models.convert(Model(inputs, build(inputs)))


def _layers():
    from tf_keras import layers

    return {
        "same, stride 2": lambda x: layers.Conv2D(6, 3, 2, "same")(x),
        "valid": lambda x: layers.Conv2D(6, (2, 3))(x),
        "dilated": lambda x: layers.Conv2D(6, 3, padding="same", dilation_rate=2)(x),
        "1x1, stride 2": lambda x: layers.Conv2D(6, 1, 2)(x),
        "depthwise": lambda x: layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2)(
            x
        ),
        "dense": lambda x: layers.Dense(5)(layers.Flatten()(x)),
        "dense on images": lambda x: layers.Dense(5)(x),
    }


@pytest.mark.parametrize("kind", list(_layers()))
def test_windows_times_weights_are_the_output(kind):
    data = geometry(_layers()[kind])
    content = tflite.read(data)
    x = np.random.default_rng(0).normal(size=(1, 9, 11, 4)).astype(np.float32)
    seen, _ = collect(data, [x], statistic=Everything)
    (op,) = (op for op in content.ops if op.name in ops.tflite("window"))
    source, kernel = (content.tensors[i] for i in op.inputs[:2])
    output = content.tensors[op.outputs[0]]
    windows = weights.Windows(op, source.shape[-1], kernel.shape)
    rows = windows.to_rows(kernel.data)
    np.testing.assert_array_equal(windows.from_rows(rows), kernel.data)
    read = windows.read(seen[source.name].values[0], 10**6)
    assert read.shape[2] == windows.width
    found = (read @ rows.transpose(0, 2, 1)).transpose(1, 0, 2)
    truth = seen[output.name].values[0]
    np.testing.assert_allclose(found.reshape(truth.shape), truth, atol=1e-5)
    assert windows.read(seen[source.name].values[0], 3).shape[1] <= 3


def test_grouped_windows():
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 6)).astype(np.float32)
    data = small_models.convert_function(
        lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"),
        [tf.TensorSpec((1, 6, 6, 4), tf.float32)],
    )
    content = tflite.read(data)
    (op,) = content.ops
    source, constant = (content.tensors[i] for i in op.inputs[:2])
    assert constant.shape == (6, 3, 3, 2)
    windows = weights.Windows(op, source.shape[-1], constant.shape)
    x = np.random.default_rng(1).normal(size=(1, 6, 6, 4)).astype(np.float32)
    rows = windows.to_rows(constant.data)
    found = (windows.read(x, 100) @ rows.transpose(0, 2, 1)).transpose(1, 0, 2)
    (truth,) = tflite.run(data, x).values()
    np.testing.assert_allclose(found.reshape(truth.shape), truth, atol=1e-5)


@pytest.fixture(scope="module")
def plain():
    return chain()


def same_outputs(one, other):
    runs = [compare_files.outputs(file, images(5))[0] for file in (one, other)]
    return np.array_equal(*runs)


def outputs_of(model):
    """Layer -> name of its output, in order."""
    content = tflite.read(model)
    names = LayerNames(content)
    return [
        (names.first(op), content.tensors[op.outputs[0]].name) for op in content.ops
    ]


def quality(model, file, xs):
    return compare_files.FileErrors(model, xs).measure(file)[0]


@pytest.mark.parametrize(
    ("recipe", "gain_db"),
    [
        ("int8", 0.3),
        ("dynamic_int8", 1),
        ("dynamic_wi4_afp32", 5),
        ("weight_only_wi4_afp32", 5),
        ("weight_only_wi8_afp32", 3),
    ],
)
def test_outputs_of_unseen_samples_come_closer(plain, recipe, gain_db):
    file = quantize_tflite(plain, recipe, samples=images()).tflite
    result = round_weights(file, plain, samples=images())
    done, rows = result.tflite, result.rounded
    before, after = (quality(plain, f, images(seed=1)) for f in (file, done))
    assert after > before + gain_db
    assert all(row.rounded_db >= row.nearest_db - 1e-3 for row in rows)
    content = tflite.read(done)
    assert [op.name for op in content.ops] == [op.name for op in tflite.read(file).ops]
    assert len(done) < len(file) + 2000
    again = round_weights(done, plain, samples=images()).tflite
    assert same_outputs(again, done)


def test_eight_bits_keep_their_scales(plain):
    file = quantize_tflite(plain, "int8", samples=images()).tflite
    result = round_weights(file, plain, samples=images())
    done, rows = result.tflite, result.rounded
    assert len(rows) == 5
    pairs = [tflite.read(f).graphs[0] for f in (file, done)]
    changed = 0
    for before, after in zip(*(g.ops for g in pairs), strict=True):
        if before.name not in ops.tflite("window"):
            continue
        one, two = (
            weights.stored_weights(op, graph)
            for op, graph in zip((before, after), pairs, strict=True)
        )
        np.testing.assert_array_equal(one.scale, two.scale)
        step = np.abs(one.values.astype(int) - two.values)
        changed += (step > 0).mean()
        assert step.max() <= 4
    assert 0.2 < changed < 5


def test_layers_in_float_stay_as_they_are(plain):
    layers = {"third": "float32", "fourth": "float32"}
    file = quantize_tflite(plain, "int8", samples=images(), layers=layers).tflite
    result = round_weights(file, plain, samples=images())
    done, rows = result.tflite, result.rounded
    assert len(rows) == 3
    assert same_outputs(done, file) is False
    assert [row.tensor for row in result.refused] == [
        tensor for name, tensor in outputs_of(plain) if name in ("third", "fourth")
    ]
    untouched = round_weights(plain, plain, samples=images(4))
    assert untouched.rounded == ()
    assert len(untouched.refused) == 5
    assert same_outputs(untouched.tflite, plain)


def test_a_layer_too_wide_to_invert_is_left_alone(plain, monkeypatch):
    monkeypatch.setattr(rounding, "MOST_WIDTH", 100)
    file = quantize_tflite(plain, "dynamic_int8").tflite
    result = round_weights(file, plain, samples=images(4))
    wide = [t for name, t in outputs_of(plain) if name in ("third", "fourth")]
    # They read 3 * 3 * 16 values and a whole image; 8-bit depthwise stays float.
    assert [r.tensor for r in result.refused if "more than 100" in r.reason] == wide
    assert len(result.rounded) == 2


def test_many_passes_give_the_same_as_one(plain, monkeypatch):
    file = quantize_tflite(plain, "dynamic_wi4_afp32").tflite
    whole = round_weights(file, plain, samples=images(8))
    monkeypatch.setattr(rounding, "_MOST_BYTES", 1)
    parts = round_weights(file, plain, samples=images(8))
    assert parts.tflite == whole.tflite
    assert parts.rounded == whole.rounded


@pytest.mark.parametrize("mode", ["fast", "full"])
def test_bias_correction_after_it_does_not_count_twice(plain, mode):
    xs = images()
    file = quantize_tflite(plain, "int8", samples=xs).tflite
    done = round_weights(file, plain, samples=xs).tflite
    fixed, _ = correct_biases(done, plain, samples=xs, mode=mode)
    truth, found = (
        np.mean(compare_files.outputs(f, xs)[0], axis=0) for f in (plain, fixed)
    )
    spread = np.std(compare_files.outputs(plain, xs)[0], axis=0)
    assert (np.abs(truth - found) < 0.05 * spread).all()
    once, _ = correct_biases(fixed, plain, samples=xs, mode="fast")
    twice, _ = correct_biases(once, plain, samples=xs, mode="fast")
    assert same_outputs(once, twice)


def test_weights_that_two_layers_share_are_parted():
    from tf_keras import Input, Model, layers

    inputs = Input(SHAPE[1:], batch_size=1)
    shared = layers.Conv2D(3, 3, padding="same", bias_initializer="ones")
    model = small_models.convert(Model(inputs, shared(shared(inputs))))
    file = quantize_tflite(model, "dynamic_wi4_afp32").tflite
    done = round_weights(file, model, samples=images())
    assert len(done.rounded) == 2
    files = (file, done.tflite)
    before, after = (quality(model, f, images(seed=1)) for f in files)
    assert after > before + 1


def test_the_sequence_keeps_it_only_where_it_helps(plain):
    done = quantize_accurately(plain, "dynamic_wi4_afp32", samples=images(80))
    assert done.taken == ("rounding, gptq",)
    assert done.steps["rounding, gptq"] > done.steps["plain"] + 5
    gain = quality(plain, done.quantized.tflite, images(seed=1))
    assert gain > done.steps["plain"] + 3
    # It is fitted to every other sample: constant ones have nothing to fit to.
    blank = [x if i % 2 else np.ones_like(x) for i, x in enumerate(images(80))]
    fitted = quantize_accurately(plain, "dynamic_wi4_afp32", samples=blank)
    assert fitted.steps["rounding, gptq"] < done.steps["rounding, gptq"] - 3
    nearest = quantize_accurately(
        plain,
        "dynamic_wi4_afp32",
        samples=images(),
        options=Options(rounding="nearest"),
    )
    assert nearest.taken == ()
    plainly = quantize_tflite(plain, "dynamic_wi4_afp32").tflite
    assert nearest.quantized.tflite == plainly


def test_what_has_no_integers_or_no_samples(plain):
    done = quantize_accurately(plain, "float16", samples=images(4))
    assert done.quantized.tflite == quantize_tflite(plain, "float16").tflite
    with pytest.raises(errors.ConfigError, match="no samples"):
        quantize_accurately(plain, "dynamic_int8", samples=[])
    with pytest.raises(errors.ConfigError, match="needs a static recipe"):
        quantize_accurately(
            plain, "float16", samples=images(4), options=Options(io="int8")
        )
    with pytest.raises(errors.ConfigError, match="Did you mean 'gptq'"):
        Options(rounding="gptk")


def test_zeros_stay_zeros():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(1, 64, 12)) @ rng.normal(size=(12, 12))
    matrix = inputs.transpose(0, 2, 1) @ inputs / 64
    row = rng.normal(size=(1, 30, 12)).astype(np.float32)
    row[rng.random(row.shape) < 0.7] = 0.0
    scale = np.full((1, 30, 1), 0.2, np.float32)
    rounded = gptq.gptq(row, scale, matrix=matrix, most=127)
    assert (rounded[row == 0.0] == 0.0).all()
    nearest = np.rint(row / scale) * scale - row
    assert error(rounded * scale - row, matrix).sum() < error(nearest, matrix).sum()


@pytest.mark.parametrize("recipe", ["int8", "dynamic_int8", "dynamic_wi4_afp32"])
def test_layers_that_share_weights_go_on_sharing_them(recipe):
    """Five steps of a recurrence, and the same in one matrix."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = (random.normal(size=(48, 48)) / 7).astype(np.float32)

    def call(x):
        state = tf.nn.relu(x[:, 0] @ kernel)
        for step in range(1, 5):
            state = tf.nn.relu(x[:, step] + tf.matmul(state, kernel))
        return state

    model = small_models.convert_function(call, [tf.TensorSpec((1, 5, 48))])
    count = sum(op.name == "FULLY_CONNECTED" for op in tflite.read(model).ops)
    assert count == 5
    xs = [random.normal(size=(1, 5, 48)).astype(np.float32) for _ in range(80)]
    plain = quantize_tflite(model, recipe, samples=xs).tflite
    done = round_weights(plain, model, samples=xs[:64])
    assert len(done.rounded) == 5
    assert len(done.tflite) < len(plain) + 48 * 16  # Scales and names, no weights.
    held_out = xs[64:]
    before, after = (
        tasks.sqnr_db(*(compare_files.outputs(m, held_out)[0] for m in (model, file)))
        for file in (plain, done.tflite)
    )
    # With INT8 activations their noise is larger than that of the weights.
    assert after > before - (0.5 if recipe == "int8" else 0.0)


def _by_the_inverse(weights, scale, matrix):
    """GPTQ as published, by the Cholesky factor of the inverse of H."""
    order = np.argsort(-np.diag(matrix), kind="stable")
    damped = matrix[np.ix_(order, order)].astype(np.float64)
    damped += 0.01 * np.diag(damped).mean() * np.eye(len(damped))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, chosen = weights[:, order].astype(np.float64), np.zeros(weights.shape)
    for i in range(len(order)):
        rounded = np.clip(np.rint(left[:, i] / scale[:, 0]), -127, 127)
        error = (left[:, i] - rounded * scale[:, 0]) / factor[i, i]
        left[:, i + 1 :] -= error[:, None] * factor[None, i, i + 1 :]
        chosen[:, order[i]] = rounded
    return chosen


@pytest.mark.parametrize(("width", "positions"), [(9, 500), (300, 900), (200, 40)])
def test_without_the_inverse_it_chooses_the_same(width, positions):
    random = np.random.default_rng(width)
    mixed = np.eye(width) + 0.1 * random.normal(size=(width, width))
    read = np.maximum(random.normal(size=(positions, width)) @ mixed, 0.0)
    matrix = (read.T @ read / positions).astype(np.float32)
    kernel = random.normal(size=(16, width)).astype(np.float32)
    scale = np.abs(kernel).max(axis=1, keepdims=True) / np.float32(127)
    (found,) = gptq.gptq(kernel[None], scale[None], matrix=matrix[None], most=127)
    np.testing.assert_array_equal(found, _by_the_inverse(kernel, scale, matrix))
