"""Each fault is made on purpose, and found."""

import dataclasses

import numpy as np
import pytest
import small_models

from tfslim import TfslimWarning, quantize_tflite, tflite
from tfslim.quantization import calibrate, diagnose
from tfslim.tflite import flatbuffer

SHAPE = (1, 12, 12, 3)


def images(count=30, seed=0, **options):
    return small_models.samples(SHAPE, count=count, seed=seed, **options)


def made(model, calibration, **options):
    ranges = calibrate(model, calibration).ranges
    return quantize_tflite(model, "int8", ranges=ranges, **options).tflite, ranges


def _diagnosed(model, done, samples):
    quantized, ranges = done
    return diagnose(model, quantized, ranges=ranges, samples=samples)


def test_a_healthy_file_has_no_finding(residual):
    assert _diagnosed(residual, made(residual, images()), images(seed=1)) == []


def test_inputs_of_another_scale_come_first(residual):
    file, ranges = made(residual, images())
    pixels = [255 * x for x in images(seed=1)]
    found = diagnose(residual, file, ranges=ranges, samples=pixels)
    assert found[0].kind == "data"
    assert "preprocess both in the same way" in found[0].text
    assert {f.kind for f in found} >= {"data", "saturation"}
    narrow = diagnose(
        residual, file, ranges=ranges, samples=[x / 255 for x in images(seed=1)]
    )
    assert narrow[0].kind == "data"


def test_values_far_from_zero_have_few_levels(residual):
    """What is normalized twice varies by 0.02 around -2: 255 * 0.02 / 2.02 levels."""
    calibration = [-2 + 0.02 * np.clip(x, 0, 1) for x in images()]
    other = [-2 + 0.02 * np.clip(x, 0, 1) for x in images(seed=1)]
    with pytest.warns(TfslimWarning, match="3 of INT8's"):
        done = made(residual, calibration)
    found = _diagnosed(residual, done, other)
    assert found[0].kind == "few levels"
    assert "span [-2, -1.98], 3 of INT8's 256 levels" in found[0].text


def test_a_layer_far_from_zero_has_few_levels():
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input(SHAPE[1:], batch_size=1)
    x = layers.Conv2D(8, 3, name="far")(inputs)
    model = tf_keras.Model(inputs, layers.Conv2D(2, 1, name="out")(x))
    kernel, bias = model.get_layer("far").get_weights()
    model.get_layer("far").set_weights([kernel, bias + 1000])
    file = small_models.convert(model)
    (finding,) = _diagnosed(file, made(file, images()), images(seed=1))
    assert (finding.kind, finding.where) == ("few levels", "far")


def test_a_clipped_layer_is_named(residual):
    file, ranges = made(residual, images())
    name = next(n for n in ranges if "project" in n)
    low, high = ranges[name]
    ranges = {**ranges, name: (low / 4, high / 4)}
    (finding,) = diagnose(residual, file, ranges=ranges, samples=images(seed=1))
    assert (finding.kind, finding.where) == ("saturation", "project")


def test_dead_channels_are_counted():
    import tf_keras
    from tf_keras import layers

    inputs = tf_keras.Input(SHAPE[1:], batch_size=1)
    x = layers.Conv2D(8, 3, activation="relu", name="half")(inputs)
    model = tf_keras.Model(inputs, layers.Conv2D(2, 1, name="out")(x))
    kernel, bias = model.get_layer("half").get_weights()
    bias[:6] = -100
    model.get_layer("half").set_weights([kernel, bias])
    file = small_models.convert(model)
    (finding,) = _diagnosed(file, made(file, images()), images(seed=1))
    assert (finding.kind, finding.where) == ("dead channels", "half")
    assert finding.text.startswith(("75%", "88%", "100%"))


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_outputs_tell_their_scale(residual, io):
    (finding,) = _diagnosed(residual, made(residual, images(), io=io), images(seed=1))
    assert finding.kind == "integers"
    assert io in finding.text


def test_one_class_is_found():
    import tf_keras
    from tf_keras import layers

    inputs = tf_keras.Input((4,), batch_size=1)
    model = tf_keras.Model(inputs, layers.Dense(3)(inputs))
    model.set_weights([np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32)])
    file = small_models.convert(model)
    xs = small_models.samples((1, 4), count=30)
    ranges = calibrate(file, xs).ranges
    # Ranges so wide that every logit rounds to the same step.
    wide = {name: (-1e4, 1e4) for name in ranges}
    done = quantize_tflite(file, "int8", ranges=wide).tflite
    found = diagnose(file, done, ranges=wide, samples=xs)
    assert [f.kind for f in found] == ["data", "one class"]


def test_inputs_of_another_place_are_found(residual):
    """Calibrated in 0..1, fed with -1..1: half of the input is cut off."""
    xs = small_models.samples((1, 12, 12, 3), low=0.0, high=1.0)
    ranges = calibrate(residual, xs)
    file = quantize_tflite(residual, ranges=ranges).tflite
    for wrong in ([2 * x - 1 for x in xs], [x + 0.5 for x in xs]):
        kinds = [
            row.kind for row in diagnose(residual, file, ranges=ranges, samples=wrong)
        ]
        assert kinds[0] == "data"
    assert not diagnose(residual, file, ranges=ranges, samples=xs)


def test_an_output_like_noise_is_found(residual):
    """Weights that someone shuffled: all ranges are right, and no level is missing."""
    xs = images()
    file, ranges = made(residual, xs)
    flat = flatbuffer.unpack(file)
    for op in tflite.read(file).ops:
        if op.name == "CONV_2D":
            tensor = flat.subgraphs[0].tensors[op.inputs[1]]
            kept = flat.buffers[tensor.buffer].data
            flat.buffers[tensor.buffer].data = np.ascontiguousarray(kept[::-1])
    found = diagnose(residual, flatbuffer.pack(flat), ranges=ranges, samples=xs)
    assert [row.kind for row in found] == ["error"]


def test_what_stays_float_does_not_saturate(residual):
    xs = small_models.samples((1, 12, 12, 3))
    ranges = calibrate(residual, xs)
    tensors = {
        name: dataclasses.replace(row, min=row.min / 4, max=row.max / 4)
        if "depthwise" in name
        else row
        for name, row in ranges.tensors.items()
    }
    narrow = dataclasses.replace(ranges, tensors=tensors)

    def saturated(**options):
        file = quantize_tflite(residual, ranges=narrow, **options).tflite
        found = diagnose(residual, file, ranges=narrow, samples=xs)
        return {row.where for row in found if row.kind == "saturation"}

    assert "depthwise" in saturated()
    assert "depthwise" not in saturated(layers={"depthwise": "float32"})
