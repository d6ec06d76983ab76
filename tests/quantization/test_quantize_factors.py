"""Products of two activations are right in runtimes that pass over a zero point."""

import numpy as np
import pytest
import small_models

from tfslim import quantize_tflite, tflite

SHAPE = (1, 6, 8)
_RANDOM = np.random.default_rng(0)
# Far from 0, so that their zero points are.
SAMPLES = [_RANDOM.normal(2.0, 1.0, SHAPE).astype(np.float32) for _ in range(16)]
KERNEL = _RANDOM.normal(size=(8, 8)).astype(np.float32)
CONSTANT = np.abs(_RANDOM.normal(size=(1, 8, 5))).astype(np.float32)


def _calls():
    import tensorflow as tf

    def projected(x):
        return tf.matmul(x, KERNEL), tf.matmul(x, tf.abs(KERNEL))

    def moved(x):
        a, b = projected(x)
        b = tf.transpose(tf.reshape(b, (1, 6, 2, 4)), (0, 2, 3, 1))
        return tf.matmul(tf.transpose(tf.reshape(a, (1, 6, 2, 4)), (0, 2, 1, 3)), b)

    return {
        "moved": moved,
        "transposed": lambda x: tf.matmul(*projected(x), transpose_b=True),
        "rectified": lambda x: tf.matmul(x, tf.nn.relu(projected(x)[0]), False, True),
        "probabilities": lambda x: tf.matmul(x, tf.nn.softmax(x), transpose_b=True),
        "constant": lambda x: tf.matmul(projected(x)[0], CONSTANT),
    }


def _answers(content, *, of_tensorflow):
    """Runs a file by TensorFlow's runtime, or by ai-edge-litert's."""
    if not of_tensorflow:
        return [next(iter(tflite.run(content, x).values())) for x in SAMPLES]
    import tensorflow as tf

    runner = tf.lite.Interpreter(model_content=content)
    runner.allocate_tensors()
    (entry,), (end,) = runner.get_input_details(), runner.get_output_details()
    found = []
    for x in SAMPLES:
        scale, shift = entry["quantization"]
        steps = np.clip(np.rint(x / scale) + shift, -128, 127) if scale else x
        runner.set_tensor(entry["index"], steps.astype(entry["dtype"]))
        runner.invoke()
        scale, shift = end["quantization"]
        given = runner.get_tensor(end["index"]).astype(np.float32)
        found.append((given - shift) * scale if scale else given)
    return found


@pytest.mark.parametrize("name", _calls())
@pytest.mark.parametrize("target", ["xnnpack", "full_integer"])
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_products_are_right_in_tensorflow_too(name, target):
    import tensorflow as tf

    content = small_models.convert_function(_calls()[name], [tf.TensorSpec(SHAPE)])
    truth = _answers(content, of_tensorflow=False)
    made = quantize_tflite(
        content, "int8", samples=SAMPLES, target=target, keep_float="none"
    )
    found = _answers(made.tflite, of_tensorflow=True)
    noise = np.square(np.subtract(found, truth)).mean()
    assert 10 * np.log10(np.square(truth).mean() / noise) > 30
