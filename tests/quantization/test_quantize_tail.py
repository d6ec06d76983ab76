"""Dense layers run apart are what the runtime computes."""

import subprocess
import sys

import numpy as np
import pytest
import small_models
from test_quantize_collect import Everything

from tfslim import errors, tflite
from tfslim.quantization import calibrate
from tfslim.quantization.ranges import dense_tail
from tfslim.quantization.ranges.collect import collect
from tfslim.tflite import flatbuffer

SHAPE = (1, 6, 6, 3)


def classifier(change=None):
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    x = inputs = tf_keras.Input(SHAPE[1:], batch_size=1, name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="relu", bias_initializer="uniform")(x)
    x = layers.Dense(16, activation="relu6", use_bias=False)(x)
    if change == "norm":
        x = layers.LayerNormalization()(x)
    y = layers.Dense(5, bias_initializer="ones")(x)
    outputs = layers.Softmax()(y)
    if change == "two outputs":
        outputs = [outputs, x]
    if change == "residual":
        outputs = layers.Softmax()(layers.Dense(16)(layers.Dense(16)(x)) + x)
    return small_models.convert(tf_keras.Model(inputs, outputs))


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(dense_tail, "_LEAST_BYTES", 1)


def images(count=21):
    return small_models.samples(SHAPE, count=count, low=-3, high=3)


@pytest.mark.parametrize("change", [None, "norm"])
def test_statistics_are_those_of_the_whole_model(change, monkeypatch):
    model = classifier(change)
    parts, count = collect(model, images(), statistic=Everything)
    assert dense_tail.split_tail(model)[1] is not None
    monkeypatch.setattr(dense_tail, "_LEAST_BYTES", 10**9)
    assert dense_tail.split_tail(model) == (model, None)
    whole, _ = collect(model, images(), statistic=Everything)
    assert count == 21
    assert list(parts) == list(whole)
    for name, truth in whole.items():
        assert len(parts[name].values) == len(truth.values) == 21
        for one, other in zip(parts[name].values, truth.values, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_tail_alone():
    model = classifier()
    head, dense = dense_tail.split_tail(model)
    names = [op.name for op in dense.ops]
    assert names == ["FULLY_CONNECTED"] * 3 + ["SOFTMAX"]
    assert len(head) < len(model) - 4 * (64 * 32 + 32 * 16)
    assert tflite.read(head).input_names.keys() == {"image"}
    xs = images(5)
    read = np.concatenate([next(iter(tflite.run(head, x).values())) for x in xs])
    (truth,) = zip(*(tflite.run(model, x).values() for x in xs), strict=True)
    np.testing.assert_allclose(dense(read)[-1], np.concatenate(truth), atol=1e-5)


@pytest.mark.parametrize("change", ["two outputs", "residual"])
def test_what_branches_is_run_whole(change):
    model = classifier(change)
    assert dense_tail.split_tail(model) == (model, None)


def test_without_a_signature():
    flat = flatbuffer.unpack(classifier())
    flat.signatureDefs = None
    seen, _ = collect(flatbuffer.pack(flat), images(3), statistic=Everything)
    assert all(len(found.values) == 3 for found in seen.values())


def test_the_batches_of_samples_do_not_matter():
    model, xs = classifier(), images(40)
    one = calibrate(model, xs, method="kl")
    other = calibrate(
        model, [np.concatenate(xs[:7]), np.concatenate(xs[7:])], method="kl"
    )
    assert one.tensors == other.tensors


def test_a_mapped_file_gives_what_its_bytes_give(tmp_path):
    model = classifier()
    path = tmp_path / "net.tflite"
    path.write_bytes(model)
    mapped = tflite.map_file(path)
    for method in ("kl", "auto"):
        found, truth = (
            calibrate(m, images(40), method=method).tensors for m in (mapped, model)
        )
        assert found == truth
    assert bytes(mapped) == model  # What was given back is read again.
    path.write_bytes(b"")
    for wrong in (path, tmp_path / "nosuch", tmp_path):
        with pytest.raises(errors.ConversionError, match="Cannot read"):
            tflite.map_file(wrong)


_GROWTH = """
import sys
import numpy as np
from pathlib import Path
from tfslim import tflite
from tfslim.quantization import calibrate
def peak():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
xs = [np.random.default_rng(0).normal(size=(1, 4096)).astype(np.float32)]
before = peak()
calibrate(tflite.map_file(sys.argv[1]), xs * 20)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Peak memory is read from /proc.")
def test_memory_is_a_part_of_a_mapped_file(tmp_path):
    """Two dense layers of 64 MiB each, of which 16 MiB are in memory at a time."""
    import tf_keras
    from tf_keras import layers

    sizes = {"kernel_initializer": "zeros", "activation": "relu"}
    x = inputs = tf_keras.Input((4096,), batch_size=1)
    x = layers.ReLU(6.0)(x)
    for _ in range(2):
        x = layers.Dense(4096, **sizes)(x)
    path = tmp_path / "net.tflite"
    path.write_bytes(small_models.convert(tf_keras.Model(inputs, x)))
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 60 * 2**20
