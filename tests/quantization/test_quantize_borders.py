"""Outputs that a model reads itself, computed weights, masks, rules and ranges."""

import dataclasses
import json

import numpy as np
import pytest
import small_models
from test_quantize_equalize import chain

from tfslim import errors, quantize_tflite, tflite
from tfslim.quantization import (
    Calibration,
    TensorRange,
    calibrate,
    judge,
    quantize_accurately,
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


@pytest.mark.parametrize(
    "name", ["dynamic_int8", "float16", "weight_only_wi8_afp32", "dynamic_wi4_afp32"]
)
def test_weights_shared_with_a_float_op_are_not_doubled(name):
    """The table of an embedding is the kernel of the last layer."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    table = tf.Variable(random.normal(size=(300, 32)).astype(np.float32))
    kernel = random.normal(size=(32, 32)).astype(np.float32)

    def call(x):
        hidden = tf.nn.relu(tf.reduce_mean(tf.gather(table, x), 1) @ kernel)
        return tf.matmul(hidden, table, transpose_b=True)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 8), tf.int32)])
    ops = [op.name for op in tflite.read(model).ops]
    assert ops.count("FULLY_CONNECTED") == 2 and "GATHER" in ops
    done = quantize_tflite(model, name)
    assert len(done.tflite) < len(model)
    reasons = {row.op: row.reason for row in done.kept_float}
    assert "GATHER" in reasons
    assert "one copy is smaller" in reasons["FULLY_CONNECTED"]


def test_a_layer_with_its_own_recipe_is_not_called_float(residual):
    xs = small_models.samples((1, 12, 12, 3))
    done = quantize_tflite(residual, samples=xs, layers={"stem": "dynamic_int8"})
    assert "CONV_2D" not in {row.op for row in done.kept_float}


def _upwards(kernel=None):
    import tensorflow as tf

    random = np.random.default_rng(0)
    first = random.normal(size=(3, 3, 2, 4)).astype(np.float32)
    second = random.normal(size=(3, 3, 2, 4)).astype(np.float32)
    if kernel is not None:
        second[0, 0, 0, 0] = kernel

    def call(x):
        x = tf.nn.relu(tf.nn.conv2d(x, first, 2, "SAME"))
        return tf.nn.conv2d_transpose(x, second, (1, 8, 8, 2), 2, name="up")

    return small_models.convert_function(call, [tf.TensorSpec((1, 8, 8, 2))])


def test_transposed_convolutions_are_named_like_the_others():
    """litert-quantizer has another name for them."""
    model = _upwards()
    (op,) = [op for op in tflite.read(model).ops if op.name == "TRANSPOSE_CONV"]
    name = tflite.read(model).tensors[op.outputs[0]].name
    xs = small_models.samples((1, 8, 8, 2))
    plain = quantize_tflite(model, samples=xs)
    assert not plain.kept_float
    done = quantize_tflite(model, samples=xs, layers={name: "float32"})
    assert [row.op for row in done.kept_float] == ["TRANSPOSE_CONV"]
    rows = rank_layers(model, calibrate(model, xs), xs)
    assert "TRANSPOSE_CONV" in {row.op for row in rows}
    half = quantize_tflite(_upwards(1e5), "float16")
    assert [row.op for row in half.kept_float] == ["TRANSPOSE_CONV"]
    for x in xs[:3]:
        assert np.isfinite(next(iter(tflite.run(half.tflite, x).values()))).all()


@pytest.mark.parametrize("recipe_name", ["int8", "static_wi8_ai16"])
def test_a_product_with_a_constant_batch_stays_float(recipe_name):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 8, 5)).astype(np.float32)
    model = small_models.convert_function(
        lambda x: tf.matmul(tf.nn.relu(x), kernel), [tf.TensorSpec((3, 6, 8))]
    )
    assert "BATCH_MATMUL" in {op.name for op in tflite.read(model).ops}
    xs = small_models.samples((3, 6, 8))
    done = quantize_tflite(model, recipe_name, samples=xs)
    assert judge.Judge(model, xs).measure(done.tflite)[0] > 30
    reasons = {row.op: row.reason for row in done.kept_float}
    assert "scales that the kernel ignores" in reasons["BATCH_MATMUL"]


def test_ranges_of_the_equalized_model_are_of_no_other():
    model = chain(wound=100.0)
    xs = small_models.samples((1, 16, 16, 3), count=40)
    done = quantize_accurately(model, samples=xs)
    assert "equalized" in done.taken
    ranges = done.quantized.calibration
    with pytest.raises(errors.ConfigError, match="of a model that was equalized"):
        quantize_tflite(model, ranges=ranges)
    with pytest.raises(errors.ConfigError, match="of a model that was equalized"):
        rank_layers(model, ranges, xs)
    with pytest.raises(errors.ConfigError, match="was not equalized"):
        quantize_tflite(done.source, ranges=calibrate(model, xs))
    again = quantize_accurately(model, samples=xs, ranges=ranges)
    assert again.quantized.tflite == done.quantized.tflite


def test_a_layers_own_recipe_beats_a_rule_for_its_op(residual):
    (general,) = recipe.get("int8").rules
    mine = recipe.Recipe("mine", ({**general, "operation": "CONV_2D"},))
    xs = small_models.samples((1, 12, 12, 3))
    done = quantize_tflite(residual, mine, samples=xs, layers={"stem": "float32"})
    (row,) = [row for row in done.kept_float if "/stem/" in row.tensor]
    assert row.reason == "It was asked to be."


def _soft_plus(x):
    import tensorflow as tf

    x = tf.matmul(x, _MIX)
    return tf.matmul(tf.math.log(tf.exp(x) + 1.0), _MIX)


def test_what_only_floats_surround_stays_float():
    """In INT8 the 1 would be lost beside exp(7)."""
    import tensorflow as tf

    model = small_models.convert_function(_soft_plus, [tf.TensorSpec((1, 16))])
    assert {"EXP", "ADD", "LOG"} <= {op.name for op in tflite.read(model).ops}
    xs = small_models.samples((1, 16), low=-2, high=2)
    done = quantize_tflite(model, samples=xs)
    reasons = {row.op: row.reason for row in done.kept_float}
    assert "All ops around it are float" in reasons["ADD"]
    assert judge.Judge(model, xs).measure(done.tflite)[0] > 28
    forced = quantize_tflite(model, samples=xs, keep_float="none")
    assert "ADD" not in {row.op for row in forced.kept_float}


def test_values_compared_for_equality_stay_float():
    import tensorflow as tf

    def call(x):
        x = tf.matmul(x, _MIX)
        largest = tf.reduce_max(x, -1, keepdims=True)
        return tf.where(tf.equal(x, largest), x, 0.0)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    xs = small_models.samples((1, 16))
    done = quantize_tflite(model, samples=xs)
    for x in xs:
        (truth,), (found,) = (tflite.run(m, x).values() for m in (model, done.tflite))
        # Two may come to one level; the largest is among those.
        assert found[0, truth.argmax()] > 0


@pytest.mark.parametrize("recipe_name", ["int8", "static_wi8_ai16"])
def test_biases_beside_nearly_silent_channels(recipe_name):
    """INT32 holds them, whatever the width of the activations."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 3, 8)).astype(np.float32)
    kernel *= np.float32([1, 1e-4, 1, 3e-5, 1, 1e-6, 0, 1])
    bias = random.uniform(0.5, 1.5, 8).astype(np.float32)
    last = random.normal(size=(8, 4)).astype(np.float32)

    def call(x):
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "VALID") + bias)
        return tf.matmul(tf.reduce_mean(x, (1, 2)), last)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 8, 8, 3))])
    xs = small_models.samples((1, 8, 8, 3))
    done = quantize_tflite(model, recipe_name, samples=xs)
    assert judge.Judge(model, xs).measure(done.tflite)[0] > 30


def test_recurrent_state_is_set_back_between_runs():
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((6, 8), batch_size=1)
    x = layers.LSTM(12)(inputs)
    keras_model = tf_keras.Model(inputs, layers.Dense(4)(x))
    model = small_models.convert(keras_model)
    assert any(t.is_variable for t in tflite.read(model).tensors)
    xs = small_models.samples((1, 6, 8))
    runner = tflite.Runner(model)
    for x in xs[:5]:
        (found,) = runner(x).values()
        np.testing.assert_allclose(found, keras_model(x).numpy(), atol=1e-5)
    forth, back = (calibrate(model, order).ranges for order in (xs, xs[::-1]))
    assert forth == back


def test_ops_without_outputs():
    import tensorflow as tf

    class Counter(tf.Module):
        def __init__(self):
            self.kernel = tf.Variable(_MIX)
            self.seen = tf.Variable(tf.zeros((1, 16)))

        @tf.function(input_signature=[tf.TensorSpec((1, 16))])
        def __call__(self, x):
            self.seen.assign_add(x)
            return tf.matmul(x + self.seen, self.kernel)

    counter = Counter()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [counter.__call__.get_concrete_function()], counter
    )
    converter.experimental_enable_resource_variables = True
    model = converter.convert()
    assert any(not op.outputs for op in tflite.read(model).ops)
    for name in ("dynamic_int8", "float16", "weight_only_wi8_afp32"):
        assert len(quantize_tflite(model, name).tflite) > 0
