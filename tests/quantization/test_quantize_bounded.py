"""Masks, idle limits, pixels and quotients in files without any float."""

import functools

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tflite

SHAPE = (1, 2, 6, 6)
RANDOM = np.random.default_rng(0)
LOGITS = [RANDOM.normal(0.0, 2.0, SHAPE).astype(np.float32) for _ in range(16)]
for _logits in LOGITS:  # What tells hidden ones is far from the limit, 0.
    _logits[..., 0] = 3.0 * np.sign(_logits[..., 0])
    _logits[..., 0, 0] = 3.0
CAUSAL = np.tril(np.ones((6, 6), bool))
KERNEL = RANDOM.normal(size=(6, 6)).astype(np.float32)


def _hidden(x, form):
    """Softmax of logits of which those above the diagonal are hidden."""
    import tensorflow as tf

    y = tf.linalg.matmul(x, KERNEL)
    if form == "select":
        return tf.nn.softmax(tf.where(CAUSAL, y, np.float32(-2.4e38)))
    if form == "select infinity":
        return tf.nn.softmax(tf.where(CAUSAL, y, np.float32(-np.inf)))
    if form == "add":
        return tf.nn.softmax(y + np.where(CAUSAL, 0.0, -1e9).astype(np.float32))
    if form == "subtract":
        return tf.nn.softmax(y - np.where(CAUSAL, 0.0, 1e9).astype(np.float32))
    # Of what the input holds, as of tokens: what is negative there is hidden.
    seen = tf.cast(x[:, :1, :, :1] > 0.0, tf.float32)
    mask = tf.transpose((1.0 - seen) * -1e9, (0, 1, 3, 2))
    if form == "multiply":
        return tf.nn.softmax(y + mask)
    return tf.reduce_max(y + mask, -1)


FORMS = ("select", "select infinity", "add", "subtract", "multiply", "maximum")


def _decibels(content, made, samples):
    noise, signal = 0.0, 0.0
    runner = tflite.Runner(made)
    (entry,), (end,) = runner.model.inputs, runner.model.outputs
    for x in samples:
        [truth] = tflite.run(content, x).values()
        if x.dtype == np.float32:
            own = entry.quantization
            x = np.clip(np.rint(x / own.scale[0]) + own.zero_point[0], -128, 127)
        [found] = runner(x.astype(entry.dtype)).values()
        own = end.quantization
        reals = (found.astype(np.float32) - own.zero_point[0]) * own.scale[0]
        noise += float(np.square(reals - truth).sum())
        signal += float(np.square(truth).sum())
    return 10 * np.log10(signal / noise)


def _made(call, samples, *, dtype="float32"):
    import tensorflow as tf

    spec = tf.TensorSpec(samples[0].shape, dtype)
    content = small_models.convert_function(call, [spec])
    made = quantize_tflite(content, samples=samples, target="full_integer").tflite
    assert not [t.name for t in tflite.read(made).tensors if "float" in t.dtype]
    return content, made


@pytest.mark.parametrize("form", FORMS)
def test_masks_hide_the_same_in_integers(form):
    content, made = _made(functools.partial(_hidden, form=form), LOGITS)
    assert _decibels(content, made, LOGITS) > 25


def test_a_mask_that_more_than_a_softmax_reads_is_named():
    import tensorflow as tf

    def call(x):
        hidden = tf.where(CAUSAL, tf.linalg.matmul(x, KERNEL), np.float32(-1e9))
        return tf.nn.softmax(hidden) + 1e-9 * hidden

    with pytest.raises(errors.QuantizationError, match=r"-1e\+09.* takes all levels"):
        _made(call, LOGITS)


def test_a_limit_that_no_value_reaches_is_left_out():
    import tensorflow as tf

    def call(x):
        y = tf.linalg.matmul(x, KERNEL)
        root = tf.math.rsqrt(tf.maximum(tf.reduce_sum(y * y, -1, keepdims=True), 1e-24))
        return y * tf.minimum(root, 1e12)

    content, made = _made(call, LOGITS)
    assert not {"MINIMUM", "MAXIMUM"} & {op.name for op in tflite.read(made).ops}
    assert _decibels(content, made, LOGITS) > 25


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_pixels_that_a_model_casts_go_in_as_they_are(dtype):
    import tensorflow as tf

    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    pixels = [RANDOM.integers(low, high + 1, (1, 6, 6)).astype(dtype) for _ in range(9)]

    def call(x):
        return tf.linalg.matmul(tf.cast(x, tf.float32) / 127.5 - 0.5, KERNEL)

    content, made = _made(call, pixels, dtype=dtype)
    assert tflite.read(made).inputs[0].dtype == dtype
    assert _decibels(content, made, pixels) > 30


def test_denominators_may_be_less_than_the_samples_showed():
    import tensorflow as tf

    def call(x):
        y = tf.linalg.matmul(x, KERNEL)
        return y / (2.0 + tf.reduce_max(tf.abs(x), -1, keepdims=True))

    content, made = _made(call, [np.clip(x, -4, 4) for x in LOGITS])
    assert _decibels(content, made, [np.clip(x, -0.5, 0.5) for x in LOGITS]) > 18
