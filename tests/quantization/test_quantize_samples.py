"""Samples as data sets give them, and float16 weights that are halved already."""

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tflite
from tfslim.quantization import quantize_accurately

_KERNEL = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
XS = np.concatenate(small_models.samples((1, 6), count=24))
YS = np.arange(24) % 4


@pytest.fixture(scope="module")
def one():
    import tensorflow as tf

    def call(x):
        return tf.nn.relu(tf.matmul(x, _KERNEL))

    return small_models.convert_function(call, [tf.TensorSpec((1, 6))])


@pytest.fixture(scope="module")
def two():
    import tensorflow as tf

    def call(left, right):
        return tf.matmul(left, _KERNEL) + tf.matmul(right, _KERNEL)

    specs = [tf.TensorSpec((1, 6), name=name) for name in ("left", "right")]
    return small_models.convert_function(call, specs)


def batched(parts, size=5):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(parts).batch(size)


@pytest.mark.parametrize(
    "samples",
    [
        lambda: batched((XS, YS)),
        lambda: batched((XS, YS, np.ones(24))),
        lambda: batched((XS,)),
        lambda: batched(((XS,), YS)),
        lambda: [(XS[:9], YS[:9]), (XS[9:], YS[9:])],
        lambda: (XS, YS),
        lambda: (XS, YS, np.ones(24)),
        lambda: [[x[None]] for x in XS],  # A converter's representative_dataset.
        lambda: (XS[:12], XS[12:]),
    ],
)
def test_the_inputs_are_taken_of_what_fit_takes(one, samples):
    truth = quantize_tflite(one, samples=[x[None] for x in XS]).tflite
    assert quantize_tflite(one, samples=samples()).tflite == truth


def test_every_step_takes_them(one):
    given, truth = (
        quantize_accurately(one, samples=xs).quantized.tflite
        for xs in (batched((XS, YS)), [x[None] for x in XS])
    )
    assert given == truth


@pytest.mark.parametrize(
    "samples",
    [
        lambda: batched((XS, 2 * XS)),
        lambda: batched(((XS, 2 * XS), YS)),
        lambda: batched(({"left": XS, "right": 2 * XS}, YS, np.ones(24))),
        lambda: batched({"right": 2 * XS, "left": XS}),
        lambda: [[x[None], 2 * x[None]] for x in XS],
    ],
)
def test_several_inputs(two, samples):
    dicts = [{"left": x[None], "right": 2 * x[None]} for x in XS]
    truth = quantize_tflite(two, samples=dicts).tflite
    assert quantize_tflite(two, samples=samples()).tflite == truth


@pytest.mark.parametrize("samples", [XS, [XS], [(XS, XS, XS, XS)], [3], ["a"], [None]])
def test_samples_that_are_not_both_inputs(two, samples):
    with pytest.raises(
        errors.ConfigError, match=r"has 2 inputs \(left, right\)"
    ) as caught:
        quantize_tflite(two, samples=samples)
    assert "\n" not in str(caught.value)


def test_ragged_samples(one):
    with pytest.raises(errors.ConfigError, match=r"cannot be made an array|is object"):
        quantize_tflite(one, samples=[[[1.0], [1.0, 2.0]], 3])


@pytest.mark.parametrize("is_half", [True, False])
def test_halves_are_passed_on(is_half):
    import tensorflow as tf

    matrices = np.random.default_rng(1).normal(size=(3, 32, 32)).astype(np.float32) / 6

    def call(x):
        for matrix in matrices:
            x = tf.nn.relu(tf.matmul(x, matrix))
        return x

    function = tf.function(call).get_concrete_function(tf.TensorSpec((1, 32)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if is_half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    given = converter.convert()
    done = quantize_tflite(given, "float16")
    assert (done.tflite == given) == is_half == bool(done.note)
    assert len(done.tflite) <= len(given)
    x = small_models.samples((1, 32), count=1)[0]
    (truth,), (found,) = (tflite.run(m, x).values() for m in (given, done.tflite))
    np.testing.assert_allclose(found, truth, atol=5e-3)
    # INT8 is smaller than halves.
    assert len(quantize_tflite(given, "dynamic_int8").tflite) < len(given)
