"""The table of ops that stay float, held against the runtime op by op."""

import numpy as np
import pytest
import small_models

from tfslim import quantize_tflite, targets, tflite

SHAPE = (1, 16, 16, 32)


def _builders():
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 32, 1)).astype(np.float32)
    return {
        "AVERAGE_POOL_2D": lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME"),
        "DEPTHWISE_CONV_2D": lambda x: tf.nn.depthwise_conv2d(
            x, kernel, [1, 1, 1, 1], "SAME"
        ),
        "DIV": lambda x: (x + 5.0) / (x + 9.0),
        "GELU": tf.nn.gelu,
        "HARD_SWISH": lambda x: x * tf.nn.relu6(x + 3.0) * (1 / 6),
        "RELU": tf.nn.relu,
        "RSQRT": lambda x: tf.math.rsqrt(x + 2.0),
        "SOFTMAX": tf.nn.softmax,
        "SQRT": lambda x: tf.sqrt(x + 2.0),
        "SQUARED_DIFFERENCE": lambda x: tf.math.squared_difference(x, x + x),
    }


@pytest.fixture(scope="module")
def build():
    import tensorflow as tf

    builders = _builders()
    spec = tf.TensorSpec(SHAPE, tf.float32)
    return lambda name: small_models.convert_function(
        lambda x: builders[name](x), [spec]
    )


def _rows(scheme):
    return [row["operation"] for row in targets.get().rows(scheme)]


@pytest.mark.parametrize(
    ("recipe", "operation"),
    [("int8", name) for name in _rows("static_int8")]
    + [("dynamic_int8", name) for name in _rows("dynamic_int8")],
)
def test_each_row_still_holds_for_the_runtime(build, recipe, operation):
    model = build(operation)
    assert operation in [op.name for op in tflite.read(model).ops]
    xs = small_models.samples(SHAPE)
    forced = quantize_tflite(model, recipe, samples=xs, keep_float="none")
    outside = [op.name for op in tflite.coverage(forced.tflite).outside]
    assert operation in outside, "XNNPACK can do it now: the row should go."
    kept = quantize_tflite(model, recipe, samples=xs)
    assert tflite.coverage(kept.tflite).is_whole
    assert operation in [row.op for row in kept.kept_float]


def test_rows_have_a_sentence_each():
    for rows in targets.get().keep_float.values():
        for row in rows:
            assert row.keys() == {"operation", "reason"}
            assert row["operation"] in row["reason"]
            assert row["reason"].endswith(".")


def test_an_op_with_an_unread_output_stays_float():
    import tensorflow as tf

    # Two of the sixteen outputs of UNPACK are read; without the rule the file that
    # litert-quantizer writes does not load.
    model = small_models.convert_function(
        lambda x: tf.add(*tf.unstack(x, axis=3)[:2]),
        [tf.TensorSpec((1, 4, 4, 16), tf.float32)],
    )
    xs = small_models.samples((1, 4, 4, 16))
    result = quantize_tflite(model, "int8", samples=xs)
    (row,) = [row for row in result.kept_float if row.op == "UNPACK"]
    assert "nobody reads" in row.reason
    for x in xs:
        (truth,), (found,) = (tflite.run(m, x).values() for m in (model, result.tflite))
        np.testing.assert_allclose(found, truth, atol=0.05)
