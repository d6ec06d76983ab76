"""What stays float by itself, because INT8 or float16 would lose it."""

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import calibrate
from tfslim.quantization.ranges.collect import activations
from tfslim.tflite import flatbuffer


def test_computed_weights_stay_float():
    import tensorflow as tf

    model = small_models.convert_function(
        lambda x, w: tf.nn.conv2d(
            tf.nn.relu(x), tf.reshape(1.5 * w, (3, 3, 3, 4)), 1, "SAME"
        ),
        [tf.TensorSpec((1, 8, 8, 3)), tf.TensorSpec((1, 108))],
    )
    random = np.random.default_rng(0)
    shapes = {
        name: tflite.read(model).tensors[index].shape
        for name, index in tflite.read(model).input_names.items()
    }
    xs = [
        {name: random.normal(size=s).astype(np.float32) for name, s in shapes.items()}
        for _ in range(20)
    ]
    done = quantize_tflite(model, samples=xs)
    (row,) = [row for row in done.kept_float if row.op == "CONV_2D"]
    assert "weights are computed" in row.reason
    (found,), (truth,) = (tflite.run(m, xs[0]).values() for m in (done.tflite, model))
    assert np.abs(found - truth).max() < 0.05 * np.abs(truth).max()


def test_what_float16_cannot_hold_stays_float32(residual):
    flat = flatbuffer.unpack(residual)
    content = tflite.read(residual)
    (dense,) = [op for op in content.ops if op.name == "FULLY_CONNECTED"]
    tensor = content.tensors[dense.inputs[1]]
    grown = np.array(tensor.data)
    grown[0, 0] = 1e5
    buffer = flat.subgraphs[0].tensors[tensor.index].buffer
    flat.buffers[buffer].data = grown.reshape(-1).view(np.uint8)
    model = flatbuffer.pack(flat)
    done = quantize_tflite(model, "float16")
    (x,) = small_models.samples((1, 12, 12, 3), count=1)
    (found,), (truth,) = (tflite.run(m, x).values() for m in (done.tflite, model))
    assert np.abs(found - truth).max() < 5e-3 * np.abs(truth).max()
    (row,) = done.kept_float
    assert row.op == "FULLY_CONNECTED" and "float16 ends at 65504" in row.reason


def _selected(mask):
    import tensorflow as tf

    def call(x, keep):
        scores = x @ _MIX
        return tf.nn.softmax(tf.where(keep > 0.5, scores, np.float32(mask))) @ _MIX

    return call


def _added(mask):
    import tensorflow as tf

    def call(x, keep):
        scores = x @ _MIX + (1.0 - keep) * np.float32(mask)
        moved = tf.transpose(tf.reshape(scores, (1, 4, 4)), (0, 2, 1))
        return tf.reshape(tf.nn.softmax(moved), (1, 16)) @ _MIX

    return call


_MIX = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)


@pytest.mark.parametrize("recipe_name", ["int8", "static_wi8_ai16"])
@pytest.mark.parametrize("method", ["minmax", "kl", "percentile", "auto"])
@pytest.mark.parametrize(
    "call",
    [
        _selected(np.finfo(np.float32).min),
        _selected(-np.inf),
        _selected(-1e9),
        _added(-1e9),
        _added(-1e4),
    ],
)
def test_computed_masks(call, method, recipe_name):
    import tensorflow as tf

    spec = tf.TensorSpec((1, 16))
    model = small_models.convert_function(call, [spec, spec])
    random = np.random.default_rng(1)
    names = list(tflite.read(model).input_names)
    xs = []
    for _ in range(40):
        x = random.normal(size=(1, 16)).astype(np.float32)
        keep = (random.random((1, 16)) > 0.4).astype(np.float32)
        keep[0, ::4] = 1.0  # No row is masked as a whole.
        # The inputs' order is the converter's: by their names x comes last or first.
        xs.append(dict(zip(names, (x, keep), strict=True)))
    done = quantize_tflite(model, recipe_name, samples=xs, calibration=method)
    assert any("a mask takes all levels" in row.reason for row in done.kept_float)
    assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 25


@pytest.mark.parametrize("pad", [np.finfo(np.float32).min, -np.inf])
def test_padding_before_a_max_pooling_is_no_mask(pad):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)

    def call(x):
        x = tf.nn.conv2d(x, kernel, 1, "SAME")
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=pad)
        return tf.nn.max_pool2d(x, 3, 2, "VALID")

    model = small_models.convert_function(call, [tf.TensorSpec((1, 8, 8, 2))])
    assert {"PADV2", "MAX_POOL_2D"} <= {op.name for op in tflite.read(model).ops}
    xs = small_models.samples((1, 8, 8, 2))
    done = quantize_tflite(model, samples=xs)
    assert "MAX_POOL_2D" not in {row.op for row in done.kept_float}
    assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 30


@pytest.mark.parametrize("recipe_name", ["int8", "static_wi8_ai16"])
def test_a_product_with_a_constant_batch_stays_float(recipe_name):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 8, 5)).astype(np.float32)
    model = small_models.convert_function(
        lambda x: tf.matmul(tf.nn.relu(x), kernel), [tf.TensorSpec((3, 6, 8))]
    )
    assert "BATCH_MATMUL" in {op.name for op in tflite.read(model).ops}
    xs = small_models.samples((3, 6, 8))
    done = quantize_tflite(model, recipe_name, samples=xs)
    assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 30
    reasons = {row.op: row.reason for row in done.kept_float}
    assert "scales that the kernel ignores" in reasons["BATCH_MATMUL"]


def _soft_plus(x):
    import tensorflow as tf

    x = tf.matmul(x, _MIX)
    return tf.matmul(tf.math.log(tf.exp(x) + 1.0), _MIX)


def test_what_only_floats_surround_stays_float():
    """In INT8 the 1 would be lost beside exp(7)."""
    import tensorflow as tf

    model = small_models.convert_function(_soft_plus, [tf.TensorSpec((1, 16))])
    assert {"EXP", "ADD", "LOG"} <= {op.name for op in tflite.read(model).ops}
    xs = small_models.samples((1, 16), low=-2, high=2)
    done = quantize_tflite(model, samples=xs)
    reasons = {row.op: row.reason for row in done.kept_float}
    assert "All ops around it are float" in reasons["ADD"]
    assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 28
    forced = quantize_tflite(model, samples=xs, keep_float="none")
    assert "ADD" not in {row.op for row in forced.kept_float}


def test_values_compared_for_equality_stay_float():
    import tensorflow as tf

    def call(x):
        x = tf.matmul(x, _MIX)
        largest = tf.reduce_max(x, -1, keepdims=True)
        return tf.where(tf.equal(x, largest), x, 0.0)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    xs = small_models.samples((1, 16))
    done = quantize_tflite(model, samples=xs)
    for x in xs:
        (truth,), (found,) = (tflite.run(m, x).values() for m in (model, done.tflite))
        # Two may come to one level; the largest is among those.
        assert found[0, truth.argmax()] > 0


def test_what_the_runtime_refuses_in_integers_stays_float():
    """Both inputs of the sum have scales of a power of two, its output has not."""
    import tensorflow as tf

    def call(x):
        y = tf.matmul(x, _MIX)
        return tf.matmul(tf.tanh(y) + tf.tanh(2.0 * y), _MIX)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    xs = small_models.samples((1, 16), low=-9, high=9)
    done = quantize_tflite(model, "static_wi8_ai16", samples=xs)
    (row,) = done.kept_float
    assert row.op == "ADD" and "add.cc" in row.reason
    assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 35


def test_scales_that_xnnpack_cannot_take_stay_float():
    """A layer whose output is a thousandth of what its weights and input allow."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = random.normal(size=(1, 1, 4, 4)).astype(np.float32)
    after = random.normal(size=(1, 1, 4, 4)).astype(np.float32)

    def call(x):
        y = tf.nn.conv2d(1e4 * tf.nn.relu(x), kernel, 1, "SAME")
        y = tf.minimum(y, 1e-3)
        return tf.nn.conv2d(y, after, 1, "SAME")

    model = small_models.convert_function(call, [tf.TensorSpec((1, 4, 4, 4))])
    xs = small_models.samples((1, 4, 4, 4))
    ranges = {t.name: (-1e-3, 1e-3) for t in activations(tflite.read(model).graphs[0])}
    inputs = {t.name for t in tflite.read(model).inputs}
    convolutions = [op for op in tflite.read(model).ops if op.name == "CONV_2D"]
    first = tflite.read(model).graphs[0].producers[convolutions[0].inputs[0]]
    wide = {tflite.read(model).graphs[0].name_of(first), *inputs}
    ranges |= dict.fromkeys(wide, (-1e4, 1e4))
    done = quantize_tflite(model, samples=xs, ranges=ranges)
    row = next(row for row in done.kept_float if row.op == "CONV_2D")
    assert "need a factor" in row.reason


def test_trials_keep_float_what_the_runtime_refuses(monkeypatch):
    """Otherwise `auto` would fail where one calibration does not."""
    import tensorflow as tf

    def call(x):
        y = tf.matmul(x, _MIX)
        return tf.matmul(y * y, _MIX)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    real, refusals = tflite.Runner, []

    def picky(content, **options):
        ops = tflite.read(content).ops
        for place, op in enumerate(ops):
            if op.name == "MUL" and tflite.read(content).is_quantized:
                source = tflite.read(content).tensors[op.inputs[0]]
                if source.quantization is not None:
                    refusals.append(place)
                    raise errors.ConversionError(
                        f"Node number {place} (MUL) failed to prepare."
                    )
        return real(content, **options)

    monkeypatch.setattr(tflite, "Runner", picky)
    xs = small_models.samples((1, 16), count=40)
    found = calibrate(model, xs, method="auto")
    assert len(refusals) == 1  # Once refused, it stays float.
    assert found.trials[0].sqnr_db > 20


def test_tables_among_floats_are_quantized():
    """All around the embedding is float, but three quarters of the file are its."""
    import tensorflow as tf

    table = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)

    def call(x):
        return tf.nn.softmax(tf.reduce_mean(tf.gather(table, x), 1))

    model = small_models.convert_function(call, [tf.TensorSpec((1, 8), tf.int32)])
    random = np.random.default_rng(1)
    xs = [random.integers(0, 400, (1, 8)).astype(np.int32) for _ in range(40)]
    done = quantize_tflite(model, samples=xs)
    assert len(done.tflite) < 0.4 * len(model)
    assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 25


@pytest.mark.parametrize("mask", [-1e4, -500.0, -200.0])
def test_masks_that_are_scaled_before_the_softmax(mask):
    """As in PyTorch's attention, or Swin's shifted windows."""
    import tensorflow as tf

    random = np.random.default_rng(2)
    seen = np.where(np.tri(16) > 0, 0.0, mask).astype(np.float32)
    queries, keys = 0.4 * random.normal(size=(2, 8, 8)).astype(np.float32)

    def call(x):
        scores = tf.matmul(x @ queries, x @ keys, transpose_b=True) + seen
        return tf.matmul(tf.nn.softmax(scores / 4.0), x)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16, 8))])
    xs = small_models.samples((1, 16, 8))
    done = quantize_tflite(model, samples=xs)
    assert any("a mask takes all levels" in row.reason for row in done.kept_float)
    assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 25


def test_large_values_are_no_masks():
    """Raw units at the input, and a regression's output in euros."""
    import tensorflow as tf

    def call(x):
        return 1e4 * tf.matmul(tf.nn.relu(tf.matmul(x, _MIX)), _MIX)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    xs = [1e6 * x for x in small_models.samples((1, 16))]
    done = quantize_tflite(model, samples=xs)
    assert "FULLY_CONNECTED" not in {row.op for row in done.kept_float}
