"""Non-max suppression inside a model, against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfslim import errors, tflite
from tfslim.convert import convert_model


def plain(boxes, scores):
    return tf.image.non_max_suppression(boxes[0], scores[0], 4, 0.3)


def padded(boxes, scores):
    found, _ = tf.image.non_max_suppression_padded(
        boxes[0], scores[0], 4, 0.3, pad_to_max_output_size=True
    )
    return found


def layer_of(pick):
    ends = [tf_keras.Input((30, 4), name="boxes"), tf_keras.Input((30,), name="scores")]
    return tf_keras.Model(ends, tf_keras.layers.Lambda(lambda t: pick(*t))(ends))


def test_the_padded_form_names_the_op_that_works():
    with pytest.raises(errors.ConversionError, match="NonMaxSuppressionV4"):
        convert_model(layer_of(padded))


def test_a_fixed_number_of_boxes():
    random = np.random.default_rng(0)
    corners = random.random((30, 2)) * 0.7
    boxes = np.concatenate([corners, corners + 0.2], 1).astype(np.float32)
    scores = random.random(30).astype(np.float32)
    best = tf.image.non_max_suppression(boxes, scores, 4, 0.3).numpy()
    assert len(best) == 4
    result = convert_model(layer_of(plain))
    assert any("NonMaxSuppressionV4" in note for note in result.notes)
    given = {"boxes": boxes[None], "scores": scores[None]}
    (found,) = tflite.run(result.tflite, given).values()
    np.testing.assert_array_equal(found, best)
