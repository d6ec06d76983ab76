"""Outputs that a model reads itself, computed weights, masks, rules and ranges."""

import dataclasses
import json

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tflite
from tfslim.quantization import (
    Calibration,
    TensorRange,
    calibrate,
    judge,
    rank_layers,
    read_ranges,
    recipe,
    write_ranges,
)
from tfslim.tflite import flatbuffer


def _read_again(kind):
    """A model that gives out features `a` and something made of them."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 3), batch_size=1)
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    b = layers.Conv2D(4, 3, padding="same")(a)
    end = {
        "add": lambda: layers.Add()([a, b]),
        "concat": lambda: layers.Concatenate()([a, b]),
        "conv": lambda: b,
        "maxpool": lambda: layers.MaxPooling2D()(a),
        "softmax": lambda: layers.Softmax()(a),  # Stays float.
    }[kind]()
    return small_models.convert(tf_keras.Model(inputs, [a, end]))


def _real(values, tensor):
    if tensor.quantization is None:
        return values
    params = tensor.quantization
    return params.scale[0] * (values.astype(np.int32) - params.zero_point[0])


@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
@pytest.mark.parametrize("kind", ["add", "concat", "conv", "maxpool", "softmax"])
def test_an_output_may_be_read_by_the_model_too(kind, io):
    model = _read_again(kind)
    xs = small_models.samples((1, 8, 8, 3))
    done = tflite.Runner(quantize_tflite(model, samples=xs, io=io).tflite)
    names = list(tflite.read(model).output_names)
    assert list(done.model.output_names) == names
    wanted = {"float": "float32"}.get(io, io)
    if kind != "softmax":
        assert {t.dtype for t in done.model.outputs} == {wanted}
    source = done.model.inputs[0]
    for x in xs[:5]:
        truth = tflite.run(model, x)
        if source.quantization is not None:
            params = source.quantization
            x = np.rint(x / params.scale[0]) + params.zero_point[0]
        found = done(x.astype(source.dtype))
        for name in names:
            tensor = done.model.tensors[done.model.output_names[name]]
            error = _real(found[name], tensor) - truth[name]
            assert np.abs(error).max() < 0.03 * np.abs(truth[name]).max()


def test_layers_before_inner_outputs_are_ranked_by_real_values():
    model = _read_again("conv")
    xs = small_models.samples((1, 8, 8, 3))
    rows = rank_layers(model, calibrate(model, xs), xs)
    assert len(rows) == 2
    assert all(row.sqnr_db > 25 for row in rows)


def test_computed_weights_stay_float():
    import tensorflow as tf

    model = small_models.convert_function(
        lambda x, w: tf.nn.conv2d(
            tf.nn.relu(x), tf.reshape(1.5 * w, (3, 3, 3, 4)), 1, "SAME"
        ),
        [tf.TensorSpec((1, 8, 8, 3)), tf.TensorSpec((1, 108))],
    )
    random = np.random.default_rng(0)
    shapes = {
        name: tflite.read(model).tensors[index].shape
        for name, index in tflite.read(model).input_names.items()
    }
    xs = [
        {name: random.normal(size=s).astype(np.float32) for name, s in shapes.items()}
        for _ in range(20)
    ]
    done = quantize_tflite(model, samples=xs)
    (row,) = [row for row in done.kept_float if row.op == "CONV_2D"]
    assert "weights are computed" in row.reason
    (found,), (truth,) = (tflite.run(m, xs[0]).values() for m in (done.tflite, model))
    assert np.abs(found - truth).max() < 0.05 * np.abs(truth).max()


def test_what_float16_cannot_hold_stays_float32(residual):
    flat = flatbuffer.unpack(residual)
    content = tflite.read(residual)
    (dense,) = [op for op in content.ops if op.name == "FULLY_CONNECTED"]
    tensor = content.tensors[dense.inputs[1]]
    grown = np.array(tensor.data)
    grown[0, 0] = 1e5
    buffer = flat.subgraphs[0].tensors[tensor.index].buffer
    flat.buffers[buffer].data = grown.reshape(-1).view(np.uint8)
    model = flatbuffer.pack(flat)
    done = quantize_tflite(model, "float16")
    (x,) = small_models.samples((1, 12, 12, 3), count=1)
    (found,), (truth,) = (tflite.run(m, x).values() for m in (done.tflite, model))
    assert np.abs(found - truth).max() < 5e-3 * np.abs(truth).max()
    (row,) = done.kept_float
    assert row.op == "FULLY_CONNECTED" and "float16 ends at 65504" in row.reason


def _selected(mask):
    import tensorflow as tf

    def call(x, keep):
        scores = x @ _MIX
        return tf.nn.softmax(tf.where(keep > 0.5, scores, np.float32(mask))) @ _MIX

    return call


def _added(mask):
    import tensorflow as tf

    def call(x, keep):
        scores = x @ _MIX + (1.0 - keep) * np.float32(mask)
        moved = tf.transpose(tf.reshape(scores, (1, 4, 4)), (0, 2, 1))
        return tf.reshape(tf.nn.softmax(moved), (1, 16)) @ _MIX

    return call


_MIX = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)


@pytest.mark.parametrize("recipe_name", ["int8", "static_wi8_ai16"])
@pytest.mark.parametrize("method", ["minmax", "kl", "percentile", "auto"])
@pytest.mark.parametrize(
    "call",
    [
        _selected(np.finfo(np.float32).min),
        _selected(-np.inf),
        _selected(-1e9),
        _added(-1e9),
        _added(-1e4),
    ],
)
def test_computed_masks(call, method, recipe_name):
    import tensorflow as tf

    spec = tf.TensorSpec((1, 16))
    model = small_models.convert_function(call, [spec, spec])
    random = np.random.default_rng(1)
    names = list(tflite.read(model).input_names)
    xs = []
    for _ in range(40):
        x = random.normal(size=(1, 16)).astype(np.float32)
        keep = (random.random((1, 16)) > 0.4).astype(np.float32)
        keep[0, ::4] = 1.0  # No row is masked as a whole.
        # The inputs' order is the converter's: by their names x comes last or first.
        xs.append(dict(zip(names, (x, keep), strict=True)))
    done = quantize_tflite(model, recipe_name, samples=xs, calibration=method)
    assert any("a mask takes all levels" in row.reason for row in done.kept_float)
    assert judge.Judge(model, xs).measure(done.tflite)[0] > 25


@pytest.mark.parametrize("pad", [np.finfo(np.float32).min, -np.inf])
def test_padding_before_a_max_pooling_is_no_mask(pad):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)

    def call(x):
        x = tf.nn.conv2d(x, kernel, 1, "SAME")
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=pad)
        return tf.nn.max_pool2d(x, 3, 2, "VALID")

    model = small_models.convert_function(call, [tf.TensorSpec((1, 8, 8, 2))])
    assert {"PADV2", "MAX_POOL_2D"} <= {op.name for op in tflite.read(model).ops}
    xs = small_models.samples((1, 8, 8, 2))
    done = quantize_tflite(model, samples=xs)
    assert "MAX_POOL_2D" not in {row.op for row in done.kept_float}
    assert judge.Judge(model, xs).measure(done.tflite)[0] > 30


def test_a_nan_beside_numbers_is_seen():
    import tensorflow as tf

    model = small_models.convert_function(
        lambda x: tf.nn.relu(x) + 1.0, [tf.TensorSpec((1, 4))]
    )
    xs = small_models.samples((1, 4))
    xs[7][0, 2] = np.nan
    with pytest.raises(errors.QuantizationError, match="holds a NaN"):
        calibrate(model, xs)


@pytest.mark.parametrize(
    "bounds",
    [(0.0, np.nan), (np.nan, 1.0), (-np.inf, 1.0), (1.0, -1.0), (-3e38, 3e38)],
)
def test_impossible_ranges_are_refused(residual, bounds, tmp_path):
    xs = small_models.samples((1, 12, 12, 3))
    ranges = calibrate(residual, xs)
    name = next(iter(ranges.tensors))
    with pytest.raises(errors.ConfigError, match="the smaller first"):
        quantize_tflite(residual, samples=xs, ranges={name: bounds})
    write_ranges(tmp_path / "a.json", ranges, residual)
    content = json.loads((tmp_path / "a.json").read_text())
    content["ranges"][0] |= dict(zip(("min", "max"), bounds, strict=True))
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(errors.ConfigError, match="the smaller first"):
        read_ranges(tmp_path / "b.json")
    with pytest.raises(errors.ConfigError, match="the smaller first"):
        Calibration("user", 0, {name: TensorRange(*bounds, "user")})


def test_a_pattern_holds_where_it_can(residual):
    """Of `*` in float16 the ADD and the MEAN have no weights: they compute in float."""
    xs = small_models.samples((1, 12, 12, 3))
    done = quantize_tflite(residual, samples=xs, layers={"*": "float16"})
    reasons = {row.op: row.reason for row in done.kept_float}
    assert {"ADD", "MEAN"} <= set(reasons)
    assert "takes 'float16'" in reasons["ADD"]
    dtypes = {t.dtype for t in tflite.read(done.tflite).tensors}
    assert "int8" not in dtypes and "float16" in dtypes


def test_a_pattern_keeps_to_the_policy(mobile):
    xs = small_models.samples((1, 16, 16, 3))
    plain = quantize_tflite(mobile, samples=xs)
    named = quantize_tflite(mobile, samples=xs, layers={"*": "int8"})
    assert [row.op for row in plain.kept_float] == [row.op for row in named.kept_float]
    assert "SOFTMAX" in {row.op for row in named.kept_float}


def test_a_static_layer_in_a_dynamic_model_is_refused(residual):
    with pytest.raises(errors.ConfigError, match="Take 'int8' for the model"):
        quantize_tflite(residual, "dynamic_int8", layers={"stem": "int8"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regex": "(["}, "regex cannot be read"),
        ({"regex": None}, "regex must be a text"),
        ({"operation": 3}, "operation must be a text"),
        ({"op_config": []}, "op_config must be an object"),
        ({"op_config": None}, "op_config must be an object"),
        (
            {"op_config": {"weight_tensor_config": 8}},
            "weight_tensor_config must be an object",
        ),
    ],
)
def test_a_broken_recipe_is_refused(change, message, tmp_path):
    (rule,) = recipe.get("int8").rules
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{**rule, **change}]))
    with pytest.raises(errors.ConfigError, match=message):
        recipe.get(path)
    with pytest.raises(errors.ConfigError, match=message):
        dataclasses.replace(recipe.get("int8"), rules=({**rule, **change},))


@pytest.mark.parametrize(
    "change",
    [{"algorithm_key": "magic"}, {"op_config": {"nosuch": 1}}, {"operation": "NOSUCH"}],
)
def test_what_litert_quantizer_does_not_know_is_refused(residual, change):
    (rule,) = recipe.get("dynamic_int8").rules
    mine = recipe.Recipe("mine", ({**rule, **change},))
    with pytest.raises(errors.TfslimError, match="litert-quantizer"):
        quantize_tflite(residual, mine)
