"""Channels without weights, tensors without values: a constant must survive INT8."""

import numpy as np
import pytest
import small_models
import tf_keras

import tfslim
from tfslim import quantize_tflite, tflite
from tfslim.quantization import backend
from tfslim.quantization.ranges import backend_ranges

SHAPE = (1, 8, 8, 4)


@pytest.fixture(scope="module")
def build():
    from tf_keras import Input, Model, layers

    def model(change):
        inputs = Input(SHAPE[1:], batch_size=1)
        x = layers.Conv2D(6, 3, name="conv", padding="same")(inputs)
        x = layers.DepthwiseConv2D(3, name="depthwise", padding="same")(x)
        x = layers.Conv2DTranspose(5, 2, 2, name="transpose")(x)
        outputs = layers.Dense(4, name="dense")(layers.Flatten()(x))
        made = Model(inputs, outputs)
        rng = np.random.default_rng(0)
        for name in ("conv", "depthwise", "transpose", "dense"):
            kernel, bias = made.get_layer(name).get_weights()
            kernel = rng.normal(0, 0.2, kernel.shape)
            bias = rng.uniform(0.5, 1.0, bias.shape)
            change(kernel, bias)
            made.get_layer(name).set_weights([kernel, bias])
        return small_models.convert(made)

    return model


def _silence(kernel, bias):
    kernel[..., 0] = 0.0
    if kernel.shape[-1] == 1:  # Depthwise: channels are the axis before.
        kernel[..., 1, :] = 0.0


def _whisper(kernel, bias):
    kernel[..., 0] *= 1e-9


def _silence_all(kernel, bias):
    kernel[...] = 0.0


def _nothing(kernel, bias):
    pass


@pytest.mark.parametrize("change", [_nothing, _silence, _whisper, _silence_all])
def test_biases_survive(build, change):
    model = build(change)
    xs = small_models.samples(SHAPE)
    result = quantize_tflite(model, "int8", samples=xs)
    assert tflite.coverage(result.tflite).is_whole
    before, after = tflite.Runner(model), tflite.Runner(result.tflite)
    truth, found = (
        np.array([next(iter(run(x).values())) for x in xs]) for run in (before, after)
    )
    noise = np.square(found - truth).mean() / np.square(truth).mean()
    assert noise < 0.01


def test_nothing_is_changed_where_nothing_is_wrong(build):
    content = tflite.read(build(_nothing))
    ranges = {t.name: (-4.0, 4.0) for t in content.tensors}
    assert backend_ranges.weight_ranges(content.graphs[0], ranges) == {}


def test_a_tensor_that_is_always_zero_gets_a_scale():
    from tf_keras import Input, Model, layers

    inputs = Input(SHAPE[1:], batch_size=1)
    x = layers.Conv2D(4, 1, bias_initializer="ones", activation="relu")(inputs * 0.0)
    model = small_models.convert(Model(inputs, layers.Conv2D(3, 1)(x)))
    xs = small_models.samples(SHAPE)
    result = quantize_tflite(model, "int8", samples=xs)
    truth, found = (
        next(iter(tflite.run(m, xs[0]).values())) for m in (model, result.tflite)
    )
    np.testing.assert_allclose(found, truth, atol=0.02 * abs(truth).max())


def test_the_bound_by_hand():
    # in: 255 steps of 1/255; bias 2^30 / 127 * 3 needs a weight range of 3 * 255.
    kernel = np.array([[1.0, -2.0], [0.0, 0.0], [0.5, 0.0]], np.float32)
    bias = np.array([0.0, 1.0, 2.0**30 / 127 * 3], np.float32)
    tensors = tuple(
        tflite.Tensor(
            index=i,
            name=name,
            shape=data.shape,
            shape_signature=data.shape,
            dtype="float32",
            quantization=None,
            raw=None if name == "x" else data.reshape(-1).view(np.uint8),
            is_variable=False,
        )
        for i, (name, data) in enumerate(
            [("x", np.zeros((1, 2), np.float32)), ("w", kernel), ("b", bias)]
        )
    )
    op = tflite.Op(0, "FULLY_CONNECTED", (0, 1, 2), (), False, None)
    graph = tflite.Graph(tensors, (op,), tensors[:1], ())
    bounds = backend_ranges.weight_ranges(graph, {"x": (0.0, 1.0)})
    # Row 0 keeps its own 2; the silent row takes the layer's; row 2 what it needs.
    np.testing.assert_allclose(bounds["w"], [[2.0], [2.0], [3 * 255.0]], rtol=1e-6)


def test_kernels_in_parts_are_the_same_kernels(residual, monkeypatch):
    samples = small_models.samples((1, 12, 12, 3), count=4)
    wanted = quantize_tflite(residual, "int8", samples=samples)
    monkeypatch.setattr(backend, "_MOST_BYTES", 64)
    found = quantize_tflite(residual, "int8", samples=samples)
    assert found.tflite == wanted.tflite


@pytest.mark.slow
def test_a_kernel_of_more_than_32_mib():
    # litert-quantizer 0.11 by itself: "more dimensions than allowed".
    kernel = np.zeros((3, 3, 1024, 1024), np.float32)
    kernel[1, 1] = np.diag(np.linspace(0.5, 2.0, 1024))
    inputs = tf_keras.Input((3, 3, 1024), batch_size=1)
    layer = tf_keras.layers.Conv2D(1024, 3, use_bias=False)
    model = tf_keras.Model(inputs, layer(inputs))
    layer.set_weights([kernel])
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 3, 1024)).astype(np.float32)
    made = quantize_tflite(tfslim.convert_model(model).tflite, "dynamic_int8")
    found = tflite.run(made.tflite, [x])[0].ravel()
    wanted = x[0, 1, 1] * kernel[1, 1].diagonal()
    # A weight is exact here, an input is rounded to a step of 1/127.
    np.testing.assert_allclose(found, wanted, atol=2.0 / 127)
