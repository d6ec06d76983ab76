"""Rules: patterns of layers, recipes of one's own, ops of another name."""

import dataclasses
import json

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, tflite
from tfslim.quantization import calibrate, rank_layers
from tfslim.quantization.rules import recipe


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
    ("change", "message"),
    [
        ({"algorithm_key": "magic"}, "litert-quantizer .* magic"),
        ({"operation": "NOSUCH"}, "litert-quantizer .* NOSUCH"),
        ({"op_config": {"weight_tensor_config": {}, "nosuch": 1}}, "field 'nosuch'"),
    ],
)
def test_what_litert_quantizer_does_not_know_is_refused(change, message):
    (rule,) = recipe.get("dynamic_int8").rules
    with pytest.raises(errors.ConfigError, match=message):
        recipe.Recipe("mine", ({**rule, **change},))


@pytest.mark.parametrize(
    "name", ["dynamic_int8", "float16", "weight_only_wi8_afp32", "dynamic_wi4_afp32"]
)
def test_weights_shared_with_a_table_are_not_doubled(name):
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
    # Once, and small: in both ops by the same scales.
    least = 300 * 32 // (2 if "wi4" in name else 1)
    tensors = [t for t in tflite.read(done.tflite).tensors if t.raw is not None]
    large = {t.raw.ctypes.data: t.raw.nbytes for t in tensors if len(t.raw) >= least}
    assert list(large.values()) == [least * (2 if name == "float16" else 1)]
    assert not done.kept_float


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
    rows = rank_layers(model, calibrate(model, xs), samples=xs)
    assert "TRANSPOSE_CONV" in {row.op for row in rows}
    half = quantize_tflite(_upwards(1e5), "float16")
    assert [row.op for row in half.kept_float] == ["TRANSPOSE_CONV"]
    for x in xs[:3]:
        assert np.isfinite(next(iter(tflite.run(half.tflite, x).values()))).all()


def test_a_layers_own_recipe_beats_a_rule_for_its_op(residual):
    (general,) = recipe.get("int8").rules
    mine = recipe.Recipe("mine", ({**general, "operation": "CONV_2D"},))
    xs = small_models.samples((1, 12, 12, 3))
    done = quantize_tflite(residual, mine, samples=xs, layers={"stem": "float32"})
    (row,) = [row for row in done.kept_float if "/stem/" in row.tensor]
    assert row.reason == "It was asked to be."
