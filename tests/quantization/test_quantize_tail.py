"""Dense layers run apart are what the runtime computes."""

import numpy as np
import pytest
import small_models
from test_quantize_collect import Everything

from tfslim import tflite
from tfslim.quantization import calibrate, collect, tail
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
    monkeypatch.setattr(tail, "_LEAST_BYTES", 1)


def images(count=21):
    return small_models.samples(SHAPE, count=count, low=-3, high=3)


@pytest.mark.parametrize("change", [None, "norm"])
def test_statistics_are_those_of_the_whole_model(change, monkeypatch):
    model = classifier(change)
    parts, count = collect(model, images(), statistic=Everything)
    assert tail.split_tail(model)[1] is not None
    monkeypatch.setattr(tail, "_LEAST_BYTES", 10**9)
    assert tail.split_tail(model) == (model, None)
    whole, _ = collect(model, images(), statistic=Everything)
    assert count == 21
    assert list(parts) == list(whole)
    for name, truth in whole.items():
        assert len(parts[name].values) == len(truth.values) == 21
        for one, other in zip(parts[name].values, truth.values, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_tail_alone():
    model = classifier()
    head, dense = tail.split_tail(model)
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
    assert tail.split_tail(model) == (model, None)


def test_without_a_signature():
    flat = flatbuffer.unpack(classifier())
    flat.signatureDefs = None
    seen, _ = collect(flatbuffer.pack(flat), images(3), statistic=Everything)
    assert all(len(found.values) == 3 for found in seen.values())


def test_the_batches_of_samples_do_not_matter():
    model, xs = classifier(), images(40)
    one = calibrate(model, xs, "kl")
    other = calibrate(model, [np.concatenate(xs[:7]), np.concatenate(xs[7:])], "kl")
    assert one.tensors == other.tensors
