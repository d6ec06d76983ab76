"""Files that others made: each works in INT8, or says clearly why not."""

import os
from pathlib import Path

import numpy as np
import pytest

from tfslim import errors, quantize_tflite, tflite
from tfslim.quantization import calibrate, quantize_accurately

DATA = os.environ.get("TFSLIM_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="needs the files of TFSLIM_DATA")


def model(name):
    return Path(DATA, "models", "tflite", name).read_bytes()


def noise(data, *, low, high, count=20):
    shape = tflite.read(data).inputs[0].shape
    rng = np.random.default_rng(0)
    return [rng.uniform(low, high, shape).astype(np.float32) for _ in range(count)]


def photos():
    """96x96 photos, 0 to 1, for the visual wake words."""
    image = pytest.importorskip("PIL.Image")
    paths = sorted(Path(DATA, "imagenet", "samples").glob("*.jpg"))[::5]
    return [
        np.asarray(image.open(p).convert("RGB").resize((96, 96)), np.float32)[None]
        / 255
        for p in paths
    ]


def cifar():
    with np.load(Path(DATA, "cifar10", "cifar10_12k.npz")) as arrays:
        return arrays["x_train"], arrays["x_test"], arrays["y_test"].reshape(-1)


def top1(data, images):
    runner = tflite.Runner(data)
    return np.array([next(iter(runner(x).values())).argmax() for x in images])


def test_resnet_keeps_its_accuracy_on_cifar10():
    data = model("pretrainedResnet.tflite")
    train, test, labels = cifar()
    xs = [x[None].astype(np.float32) for x in train[:200]]
    result = quantize_tflite(data, "int8", samples=xs)
    assert tflite.coverage(result.tflite).is_whole
    assert {row.op for row in result.kept_float} == {"AVERAGE_POOL_2D", "SOFTMAX"}
    images = [x[None].astype(np.float32) for x in test[:1000]]
    before, after = top1(data, images), top1(result.tflite, images)
    assert np.mean(before == labels[:1000]) > 0.8
    assert np.mean(before == after) > 0.95
    assert (
        abs(np.mean(before == labels[:1000]) - np.mean(after == labels[:1000])) < 0.02
    )


def test_visual_wake_words_agrees_on_photos():
    data = model("vww_96_float.tflite")
    xs = photos()
    result = quantize_tflite(data, "int8", samples=xs[::2])
    assert tflite.coverage(result.tflite).is_whole
    assert np.mean(top1(data, xs) == top1(result.tflite, xs)) > 0.9
    assert len(result.tflite) < 0.4 * len(data)


def test_the_dense_autoencoder_comes_back():
    data = model("ad01_fp32.tflite")
    xs = noise(data, low=-30, high=5)
    result = quantize_tflite(data, "int8", samples=xs)
    assert tflite.coverage(result.tflite).is_whole
    for x in xs:
        (truth,), (found,) = (tflite.run(m, x).values() for m in (data, result.tflite))
        assert np.abs(truth - found).max() < 0.1 * np.abs(truth).max()


@pytest.mark.slow
def test_super_resolution_is_quantized_but_for_its_shuffle():
    data = model("edsr_f32b5_fp32.tflite")
    result = quantize_tflite(data, "int8", samples=noise(data, low=0, high=1, count=1))
    kept = {row.op for row in result.kept_float}
    assert kept == {"DEPTH_TO_SPACE", "MINIMUM", "RELU"}
    assert tflite.coverage(result.tflite).is_whole


@pytest.mark.parametrize(
    "name",
    [
        "kws_ref_model_float32.tflite",  # Its weights are INT8, for all its name.
        "mobilenet_v1_0.25_128_quant.tflite",
        "split_concat.tflite",
    ],
)
def test_a_quantized_file_goes_through_unharmed(name):
    data = model(name)
    for done in (
        quantize_tflite(data, "int8"),
        quantize_tflite(data, "dynamic_int8"),
        quantize_accurately(data, "int8", samples=[]).quantized,
    ):
        assert done.tflite == data
        assert "quantized already" in done.note
        assert done.calibration is None
    with pytest.raises(errors.ConfigError, match="to choose"):
        quantize_tflite(data, "int8", layers={"conv": "float32"})
    with pytest.raises(errors.QuantizationError, match="already quantized"):
        calibrate(data, [])


def test_float_ops_of_a_partly_quantized_file_are_named():
    data = model("vww_96_float.tflite")
    partly = quantize_tflite(data, "int8", samples=photos()[:4]).tflite
    again = quantize_tflite(partly, "int8")
    assert again.tflite == partly
    assert {row.op for row in again.kept_float} == {"AVERAGE_POOL_2D", "SOFTMAX"}
