import dataclasses
import gzip

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import analysis, benchmark, errors, tflite
from tfslim.analysis import sparse_inference, sparsity
from tfslim.analyze import main
from tfslim.convert import convert_model

LAYERS = tf_keras.layers
QUICK = benchmark.Options(num_runs=16, rounds=8, warmup_secs=0.0)


def _prune(model, share, *, m_by_n=None):
    """Zeroes the smallest weights of every kernel but the depthwise ones."""
    for layer in model.layers:
        if not isinstance(layer, LAYERS.Conv2D | LAYERS.Dense) or isinstance(
            layer, LAYERS.DepthwiseConv2D
        ):
            continue
        kernel, *rest = layer.get_weights()
        if m_by_n is not None:
            rows = np.moveaxis(kernel, -2, -1)
            groups = rows.reshape(-1, m_by_n[1])
            order = np.argsort(np.abs(groups), axis=1)
            np.put_along_axis(groups, order[:, : m_by_n[0]], 0.0, axis=1)
            kernel = np.moveaxis(groups.reshape(rows.shape), -1, -2)
        else:
            kernel = np.where(abs(kernel) < np.quantile(abs(kernel), share), 0, kernel)
        layer.set_weights([kernel, *rest])
    return model


def _mobile(*, stride=2, pad=True, depthwise_stride=1, end="mean", middle=None):
    x = inputs = tf_keras.Input((32, 32, 3))
    x = LAYERS.ZeroPadding2D(1)(x) if pad else x
    side = "valid" if pad else "same"
    x = LAYERS.Conv2D(8, 3, strides=stride, padding=side, name="stem")(x)
    x = LAYERS.ReLU()(x)
    if depthwise_stride == 2 and pad:
        x = LAYERS.ZeroPadding2D(1)(x)
        x = LAYERS.DepthwiseConv2D(3, strides=2, name="depthwise")(x)
    else:
        x = LAYERS.DepthwiseConv2D(
            3, strides=depthwise_stride, padding="same", name="depthwise"
        )(x)
    x = LAYERS.Conv2D(16, 1, name="pointwise")(x)
    if middle is not None:
        x = middle(x)
    y = LAYERS.Conv2D(16, 1, name="branch")(x)
    x = LAYERS.Add()([x, y])
    if end == "mean":
        x = LAYERS.GlobalAveragePooling2D()(x)
    else:
        x = LAYERS.Flatten()(x)
    return tf_keras.Model(inputs, LAYERS.Dense(4, name="head")(x))


def _reasons(model, *, sparse=True, zeros=0.8):
    file = convert_model(_prune(model, zeros)).tflite
    if sparse:
        file = tflite.store_sparse(file)
    content = tflite.read(file)
    found = sparse_inference.obstacles(content)
    graph = content.graphs[0]
    shapes = {"CONV_2D": (1, 1), "FULLY_CONNECTED": ()}
    return [
        found[op.index]
        for op in content.ops
        if op.name in shapes
        and graph.constant(op.inputs[1]).shape[1:-1] == shapes[op.name]
    ]


@pytest.mark.parametrize("depthwise_stride", [1, 2])
def test_the_form_that_xnnpack_computes_sparsely(depthwise_stride):
    # Two pointwise convolutions; what follows the mean is one position only.
    pointwise, branch, *_ = _reasons(_mobile(depthwise_stride=depthwise_stride))
    assert pointwise is None and branch is None


@pytest.mark.parametrize(
    ("options", "request_options", "reason"),
    [
        ({}, {"sparse": False}, "no weight is stored in the sparse format"),
        ({}, {"zeros": 0.6, "sparse": True}, "60% zeros in 1x1 convolutions"),
        ({"pad": False}, {}, "not padded by 1 on each side"),
        ({"stride": 1}, {}, "a 3x3 convolution has no sparse kernel"),
        (
            {"pad": False, "depthwise_stride": 2},
            {},
            "not padded alike on all sides",
        ),
        ({"end": "flatten"}, {}, "no MEAN over height and width"),
        ({"middle": LAYERS.MaxPooling2D()}, {}, "cut by MAX_POOL_2D"),
        (
            {"middle": LAYERS.Conv2D(16, 1, strides=2)},
            {},
            "1x1 convolution with stride",
        ),
    ],
)
def test_one_condition_missing(options, request_options, reason):
    found = _reasons(_mobile(**options), **request_options)
    assert any(reason in (obstacle or "") for obstacle in found[:3]), found
    assert None not in found[:2]


def test_int8_is_never_sparse():
    model = _prune(_mobile(), 0.8)
    x = np.random.default_rng(0).normal(size=(8, 1, 32, 32, 3)).astype(np.float32)
    file = tfslim.quantize_tflite(convert_model(model).tflite, samples=[*x]).tflite
    found = sparse_inference.obstacles(tflite.read(file))
    assert "its arithmetic is not float; the sparse kernels are" in found.values()
    assert None not in found.values()


def test_post_training_quantization_keeps_zeros():
    model = _prune(_mobile(), 0.8)
    floats = {k.nonzero.shape: k for k in analysis.read_sparsity(_file(model))}
    x = np.random.default_rng(0).normal(size=(8, 1, 32, 32, 3)).astype(np.float32)
    file = tfslim.quantize_tflite(_file(model), samples=[*x]).tflite
    for kernel in analysis.read_sparsity(file):
        assert kernel.dtype == "int8"
        # Rounding may only add zeros.
        assert not np.any(kernel.nonzero & ~floats[kernel.nonzero.shape].nonzero)


def _file(model):
    return convert_model(model).tflite


def test_m_by_n_lies_along_the_inputs_of_the_file():
    x = inputs = tf_keras.Input((8, 8, 8))
    x = LAYERS.Conv2D(12, 3)(x)
    x = LAYERS.Flatten()(LAYERS.Conv2D(4, 1)(x))
    model = _prune(tf_keras.Model(inputs, LAYERS.Dense(8)(x)), 0, m_by_n=(2, 4))
    for kernel in analysis.read_sparsity(_file(model)):
        assert kernel.fits(2, 4)
        assert not kernel.fits(3, 4)
        assert kernel.sparsity == 0.5
        # Along another axis the zeros fall as they happen to.
        turned = np.moveaxis(kernel.nonzero, 0, -1)
        assert not dataclasses.replace(kernel, nonzero=turned).fits(2, 4)


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ([1, 1, 0, 0, 1, 0, 0, 1], True),
        ([1, 1, 1, 0, 0, 0, 0, 0], False),
        ([0, 0, 0, 0, 1, 1], True),  # A smaller group at the end.
        ([0, 1, 1, 0, 1, 1, 1], False),
    ],
)
def test_fits_by_hand(row, fits):
    kernel = sparsity.KernelSparsity(
        "FULLY_CONNECTED", 0, "w", "float32", False, np.array([row], bool), 2, 2
    )
    assert kernel.fits(2, 4) is fits


def test_values_are_counted_by_hand():
    inputs = tf_keras.Input((3,))
    model = tf_keras.Model(inputs, LAYERS.Dense(2)(inputs))
    kernel = np.array([[1, 5], [1, 6], [0, 7]], np.float32)
    model.layers[1].set_weights([kernel, np.zeros(2)])
    [found] = analysis.read_sparsity(_file(model))
    assert (found.op, found.sparsity) == ("FULLY_CONNECTED", pytest.approx(1 / 6))
    assert (found.num_values, found.num_values_per_channel) == (5, 3)


def test_advice(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(_file(_prune(_mobile(), 0.8)))
    advice = analysis.advise_sparsity(path, options=QUICK)
    data = path.read_bytes()
    assert advice.size_bytes == len(data)
    assert advice.gzip_bytes == len(gzip.compress(data, 6, mtime=0))
    assert advice.gzip_bytes < advice.dense_gzip_bytes
    assert advice.stored_sparse_bytes == len(tflite.store_sparse(data))
    assert advice.num_sparse_ops == 0
    zeros = sum(int(np.sum(~k.nonzero)) for k in advice.kernels)
    weights = sum(k.nonzero.size for k in advice.kernels)
    assert advice.sparsity == pytest.approx(zeros / weights)
    text = str(advice)
    assert f"gzip {advice.gzip_bytes:,}" in text
    assert "dense: no weight is stored in the sparse format" in text
    assert "of the dense file's" in text and advice.latency.base == "dense"


def test_advice_without_latency():
    file = tflite.store_sparse(_file(_prune(_mobile(), 0.8)))
    advice = analysis.advise_sparsity(file, measure_latency=False)
    assert advice.latency is None and advice.num_sparse_ops >= 2
    assert "sparse kernel" in str(advice)


def test_dense_twin_has_no_zeros_and_the_same_ops():
    file = _file(_prune(_mobile(), 0.8))
    for given in (file, tflite.store_sparse(file)):
        twin = sparsity.without_zeros(given)
        assert all(k.sparsity == 0.0 for k in analysis.read_sparsity(twin))
        assert [o.name for o in tflite.read(twin).ops] == [
            o.name for o in tflite.read(file).ops
        ]
        [output] = tflite.run(twin, np.ones((1, 32, 32, 3), np.float32)).values()
        assert np.isfinite(output).all()


def test_x86_has_no_sparse_kernels(monkeypatch):
    monkeypatch.setattr(sparse_inference.platform, "machine", lambda: "aarch64")
    assert sparse_inference.host_obstacle() is None
    monkeypatch.setattr(sparse_inference.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(
        sparse_inference.Path, "read_text", lambda *_, **__: "flags : fpu avx sse2"
    )
    assert "x86 with AVX" in sparse_inference.host_obstacle()


def test_file_without_kernels():
    inputs = tf_keras.Input((3,))
    model = tf_keras.Model(inputs, LAYERS.ReLU()(inputs))
    with pytest.raises(errors.ConfigError, match="no convolution or Dense layer"):
        analysis.advise_sparsity(_file(model))
    with pytest.raises(errors.ConversionError, match=r"Not a \.tflite"):
        analysis.advise_sparsity(b"nothing of the kind")


def test_command(tmp_path, capsys):
    path, out = tmp_path / "model.tflite", tmp_path / "sparse.tflite"
    path.write_bytes(_file(_prune(_mobile(), 0.8)))
    command = ["analysis", str(path), "--num_runs=0", f"--store_sparse={out}"]
    assert main(command) == 0
    assert "zeros in 5 kernels" in capsys.readouterr().out
    assert out.read_bytes() == tflite.store_sparse(path.read_bytes())
    assert main(command) == 2
    assert "Pass --overwrite" in capsys.readouterr().err
    assert main(["analysis"]) == 2
    assert main(["analysis", str(tmp_path / "none.tflite")]) == 1


@pytest.mark.parametrize("by", ["tensorflow", "tfslim"])
def test_kernels_of_a_float16_file_are_read(by, tmp_path, capsys):
    inputs = tf_keras.Input((8, 8, 4))
    model = tf_keras.Model(inputs, LAYERS.Conv2D(6, 1, name="conv")(inputs))
    kernel, bias = model.get_weights()
    kernel[..., :2] = 0
    model.set_weights([kernel, bias])
    if by == "tensorflow":
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        data = converter.convert()
    else:
        plain = convert_model(model).tflite
        data = tfslim.quantize_tflite(plain, "float16").tflite
    (found,) = analysis.read_sparsity(data)
    assert (found.op, found.dtype) == ("CONV_2D", "float16")
    assert found.sparsity == pytest.approx(2 / 6)
    path = tmp_path / "half.tflite"
    path.write_bytes(data)
    # Flags may stand before the file.
    assert main(["x", "--num_runs=0", str(path)]) == 0
    said = capsys.readouterr().out
    assert "33.3% zeros" in said and "DEQUANTIZE" not in said
    # The dense twin has the same form and no zeros.
    (dense,) = analysis.read_sparsity(sparsity.without_zeros(data))
    assert dense.sparsity == 0.0 and dense.dtype == "float16"
