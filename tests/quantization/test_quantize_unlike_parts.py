"""Concatenations at the end whose parts one INT8 scale would lose."""

import numpy as np
import pytest
import small_models

from tfslim import quantize_tflite, tflite

_KERNEL = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def joined(scale, join, shape=(1, 5, 6)):
    """Boxes times `scale` and scores of one input, put together by `join`."""
    import tensorflow as tf

    def call(x):
        boxes = scale * (0.1 + tf.sigmoid(tf.matmul(x, _KERNEL)))
        scores = tf.sigmoid(tf.matmul(x, -_KERNEL[:, :3]) - 3.0)
        return join(tf, boxes, scores)

    return small_models.convert_function(call, [tf.TensorSpec(shape)])


def end(tf, boxes, scores):
    return tf.concat([boxes, scores], -1)


def rows(tf, boxes, scores):
    both = [tf.transpose(part, (0, 2, 1)) for part in (boxes, scores)]
    return tf.concat(both, 1)


def moved(tf, boxes, scores):
    return tf.reshape(tf.concat([boxes, scores], -1), (1, 35))


def of_levels(tf, boxes, scores):
    levels = [tf.concat([boxes * n, scores], -1) for n in (1.0, 0.5)]
    return tf.concat(levels, 1)


def beside_zeros(tf, boxes, scores):
    return tf.concat([boxes, tf.zeros_like(scores), scores], -1)


def kept(model, xs, **options):
    done = quantize_tflite(model, samples=xs, **options)
    reasons = {row.op: row.reason for row in done.kept_float}
    return done, reasons


@pytest.mark.parametrize("join", [end, rows, moved, of_levels, beside_zeros])
def test_scores_beside_boxes_follow_the_float_model(join):
    model = joined(640.0, join)
    xs = small_models.samples((1, 5, 6), count=30)
    done, reasons = kept(model, xs)
    assert "one INT8 scale would lose the small ones" in reasons["CONCATENATION"]
    runs = [tflite.Runner(m) for m in (model, done.tflite)]
    truth, found = (
        np.concatenate([next(iter(run(x).values())) for x in xs]) for run in runs
    )
    scores = truth < 1.0  # A box of less than a pixel is none here.
    assert scores.mean() > 0.3
    error = np.abs(truth - found)
    assert error[scores].max() < 0.02 and error[~scores].max() < 12
    content = tflite.read(done.tflite)
    products = [op for op in content.ops if op.name == "FULLY_CONNECTED"]
    assert {content.tensors[op.outputs[0]].dtype for op in products} == {"int8"}


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_alike_parts_are_integers(scale):
    xs = small_models.samples((1, 5, 6), count=30)
    _, reasons = kept(joined(scale, end), xs)
    assert "CONCATENATION" not in reasons


def test_what_is_computed_with_afterwards_is_no_end():
    def mixed(tf, boxes, scores):
        both = tf.concat([boxes, scores], -1)
        return tf.matmul(both, np.ones((7, 2), np.float32))

    xs = small_models.samples((1, 5, 6), count=30)
    _, reasons = kept(joined(640.0, mixed), xs)
    assert "CONCATENATION" not in reasons


def test_chips_without_float_get_integers():
    xs = small_models.samples((1, 5, 6), count=30)
    _, reasons = kept(joined(640.0, end), xs, keep_float="none")
    assert "CONCATENATION" not in reasons
