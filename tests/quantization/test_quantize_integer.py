"""INT8 output against an independent integer reference, to the last bit but one."""

import integer_reference as reference
import numpy as np
import pytest
import small_models

from tfslim import quantize_tflite, tflite

LAYERS = ["stem", "depthwise", "project", "add", "mean", "logits"]


@pytest.fixture(scope="module")
def images():
    return small_models.samples((1, 12, 12, 3), count=100)


@pytest.fixture(scope="module")
def seen(residual_keras, images):
    """Scale and zero point of every activation, from Keras."""
    import tf_keras

    layers = [residual_keras.get_layer(name) for name in LAYERS]
    inner = tf_keras.Model(residual_keras.input, [layer.output for layer in layers])
    values = [inner(image) for image in images]
    params = {
        name: reference.activation_params(np.array([v[i] for v in values]))
        for i, name in enumerate(LAYERS)
    }
    return params | {"image": reference.activation_params(np.array(images))}


def run(kernels, model, seen, image):
    """The network by the reference, from Keras's float weights."""
    weights = {name: model.get_layer(name).get_weights() for name in LAYERS}
    x = reference.quantize(image[0], *seen["image"])
    x = kernels.conv(x, *weights["stem"], seen["stem"], stride=2, low=0.0, high=6.0)
    y = kernels.depthwise(x, *weights["depthwise"], seen["depthwise"], low=0.0)
    y = kernels.conv(y, *weights["project"], seen["project"])
    x = kernels.mean(kernels.add(x, y, seen["add"]), seen["mean"])
    return kernels.dense(x, *weights["logits"], seen["logits"]).q


@pytest.mark.parametrize("xnnpack", [True, False])
def test_at_most_one_step_off(residual, residual_keras, images, seen, xnnpack):
    quantized = quantize_tflite(residual, "int8", samples=images, io="int8")
    assert not quantized.kept_float
    runner = tflite.Runner(quantized.tflite, xnnpack=xnnpack)
    for tensor, name in (
        (runner.model.inputs[0], "image"),
        (runner.model.outputs[0], "logits"),
    ):
        scale, zero_point = seen[name]
        assert tensor.dtype == "int8"
        np.testing.assert_allclose(tensor.quantization.scale, scale, rtol=1e-5)
        assert tensor.quantization.zero_point == zero_point
        assert -128 < zero_point < -20  # An asymmetric range.
    kernels = reference.XNNPACK if xnnpack else reference.BUILTIN
    truths, outputs = [], []
    for image in images:
        truths.append(run(kernels, residual_keras, seen, image))
        inputs = reference.quantize(image, *seen["image"]).q.astype(np.int8)
        (output,) = runner(inputs).values()
        outputs.append(output[0].astype(int))
    differences = np.array(outputs) - truths
    assert np.abs(differences).max() <= 1
    # Rounding differs now and then; a shifted border or scale differs always.
    assert np.mean(differences != 0) < 0.05
    assert len({tuple(truth) for truth in truths}) > 90
