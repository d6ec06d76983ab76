"""INT8 output against an independent integer reference, to the last bit but one."""

import conftest
import integer_reference as reference
import numpy as np
import pytest

from tfslim import quantize_tflite, tflite


@pytest.fixture(scope="module")
def images():
    return conftest.samples((1, 12, 12, 3), count=100)


@pytest.fixture(scope="module")
def expected(residual_keras, images):
    """Output integers and their parameters, from Keras's weights and activations."""
    import tf_keras

    names = ["stem", "depthwise", "project", "add", "mean", "logits"]
    layers = [residual_keras.get_layer(name) for name in names]
    inner = tf_keras.Model(residual_keras.input, [layer.output for layer in layers])
    values = [inner(image) for image in images]
    seen = {
        name: reference.activation_params(np.array([v[i] for v in values]))
        for i, name in enumerate(names)
    }
    source = reference.activation_params(np.array(images))
    weights = {layer.name: layer.get_weights() for layer in layers}

    def run(image):
        x = reference.quantize(image[0], *source)
        x = reference.conv(
            x, *weights["stem"], seen["stem"], stride=2, low=0.0, high=6.0
        )
        y = reference.depthwise(x, *weights["depthwise"], seen["depthwise"], low=0.0)
        y = reference.conv(y, *weights["project"], seen["project"])
        x = reference.mean(reference.add(x, y, seen["add"]), seen["mean"])
        return reference.dense(x, *weights["logits"], seen["logits"])

    return source, [run(image) for image in images]


@pytest.mark.parametrize("xnnpack", [True, False])
def test_at_most_one_step_off(residual, images, expected, xnnpack):
    source, results = expected
    quantized = quantize_tflite(residual, "int8", samples=images, io="int8")
    assert not quantized.kept_float
    runner = tflite.Runner(quantized.tflite, xnnpack=xnnpack)
    given, taken = runner.model.inputs[0], runner.model.outputs[0]
    assert (given.dtype, taken.dtype) == ("int8", "int8")
    for tensor, params in ((given, source), (taken, (results[0].scale, None))):
        np.testing.assert_allclose(tensor.quantization.scale, params[0], rtol=1e-5)
    assert given.quantization.zero_point == source[1] != -128
    assert taken.quantization.zero_point == results[0].zero_point
    differences = []
    for image, result in zip(images, results, strict=True):
        inputs = reference.quantize(image, *source).q.astype(np.int8)
        (output,) = runner(inputs).values()
        differences.append(output[0].astype(int) - result.q)
    assert np.abs(differences).max() <= 1
    # Rounding differs now and then; a shifted border or scale differs always.
    assert np.mean(np.array(differences) != 0) < 0.2
    assert len({tuple(result.q) for result in results}) > 90
