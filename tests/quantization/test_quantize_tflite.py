import json
import logging

import numpy as np
import pytest
import small_models
from litert_quantizer import recipe as upstream

from tfslim import errors, quantization, quantize_tflite, recipe_names, tflite
from tfslim.quantization.rules import recipe
from tfslim.tflite import flatbuffer, metadata


def images(shape=(1, 16, 16, 3), **options):
    return small_models.samples(shape, **options)


def integers(runner, x):
    """Quantizes `x` for a model with integer input, by the file's own parameters."""
    tensor = runner.model.inputs[0]
    limits = np.iinfo(tensor.dtype)
    q = np.rint(x / tensor.quantization.scale) + tensor.quantization.zero_point
    return np.clip(q, limits.min, limits.max).astype(tensor.dtype)


def reals(runner, q):
    params = runner.model.outputs[0].quantization
    return (q.astype(np.float32) - params.zero_point) * params.scale


def sqnr_db(truth, other):
    noise = np.square(np.float64(truth) - other).sum()
    return 10 * np.log10(np.square(np.float64(truth)).sum() / noise)


def outputs(model, xs):
    runner = tflite.Runner(model)
    return np.concatenate([next(iter(runner(x).values())) for x in xs])


@pytest.mark.parametrize(
    ("name", "least_db"),
    [
        ("int8", 20),
        ("static_wi8_ai8", 20),
        ("static_wi8_ai16", 40),
        ("dynamic_int8", 25),
        ("weight_only_wi8_afp32", 35),
        ("float16", 60),
    ],
)
def test_each_recipe_computes_what_the_float_model_does(mobile, name, least_db):
    result = quantize_tflite(mobile, name, samples=images(count=50))
    held_out = images(seed=1)
    truth = outputs(mobile, held_out)
    assert sqnr_db(truth, outputs(result.tflite, held_out)) > least_db
    assert len(result.tflite) < len(mobile)
    assert tflite.read(result.tflite).outputs[0].dtype == "float32"


@pytest.mark.parametrize("name", ["float16", "int8", "dynamic_int8"])
def test_the_short_recipes_run_as_one_xnnpack_partition(mobile, name):
    result = quantize_tflite(mobile, name, samples=images())
    assert tflite.coverage(result.tflite).is_whole


def test_int8_keeps_float_what_is_slow_and_says_why(mobile):
    result = quantize_tflite(mobile, "int8", samples=images())
    kept = {row.op: row.reason for row in result.kept_float}
    assert kept.keys() == {"HARD_SWISH", "AVERAGE_POOL_2D", "SOFTMAX"}
    assert "XNNPACK has no INT8 HARD_SWISH" in kept["HARD_SWISH"]
    assert len(result.kept_float) == 4
    after = tflite.read(result.tflite)
    for op in after.ops:
        dtype = after.tensors[op.outputs[0]].dtype
        floats = {*kept, "DEQUANTIZE"}
        assert (dtype == "float32") == (op.name in floats), op.name


def test_keep_float_none_leaves_no_float_op(mobile):
    result = quantize_tflite(
        mobile, "int8", samples=images(), io="int8", keep_float="none"
    )
    assert result.kept_float == ()
    model = tflite.read(result.tflite)
    assert not [t.name for t in model.tensors if t.dtype == "float32"]


def test_weights_are_per_channel_and_symmetric(mobile):
    result = quantize_tflite(mobile, "int8", samples=images())
    model = tflite.read(result.tflite)
    floats = {t.name: t for t in tflite.read(mobile).tensors}
    seen = 0
    for op in model.ops:
        if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        weights = model.tensors[op.inputs[1]]
        params = weights.quantization
        truth = floats[weights.name].data
        axis = 3 if op.name == "DEPTHWISE_CONV_2D" else 0
        others = tuple(i for i in range(truth.ndim) if i != axis)
        np.testing.assert_allclose(
            params.scale, np.abs(truth).max(axis=others) / 127, rtol=1e-5
        )
        assert params.axis == axis
        assert not params.zero_point.any()
        assert np.abs(weights.data.astype(int)).max() == 127
        seen += 1
    assert seen == 5


def test_ranges_are_the_true_extremes(residual, residual_keras):
    xs = images((1, 12, 12, 3))
    result = quantize_tflite(residual, "int8", samples=xs)
    stem = np.array([residual_keras.get_layer("stem")(x) for x in xs])
    tensor = tflite.read(residual).ops[0].outputs[0]
    name = tflite.read(residual).tensors[tensor].name
    ranges = result.calibration.ranges
    np.testing.assert_allclose(ranges[name], (stem.min(), stem.max()), rtol=1e-6)
    source = tflite.read(residual).inputs[0].name
    assert ranges[source] == (float(np.min(xs)), float(np.max(xs)))
    calibration = result.calibration
    assert (calibration.num_samples, calibration.method) == (20, "minmax")


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_io_computes_the_same_as_float_io(residual, io):
    xs = images((1, 12, 12, 3))
    by_float = quantize_tflite(residual, "int8", samples=xs)
    by_integer = quantize_tflite(residual, "int8", samples=xs, io=io)
    runner = tflite.Runner(by_integer.tflite)
    assert runner.model.inputs[0].dtype == runner.model.outputs[0].dtype == io
    assert runner.model.input_names.keys() == {"image"}
    for x, truth in zip(xs, outputs(by_float.tflite, xs), strict=True):
        (q,) = runner(integers(runner, x)).values()
        np.testing.assert_allclose(reals(runner, q)[0], truth, rtol=1e-6)


def test_uint8_is_int8_shifted_by_128(residual):
    xs = images((1, 12, 12, 3))
    signed, unsigned = (
        tflite.Runner(quantize_tflite(residual, "int8", samples=xs, io=io).tflite)
        for io in ("int8", "uint8")
    )
    for x in xs:
        q = integers(signed, x)
        (a,) = signed(q).values()
        (b,) = unsigned((q.astype(int) + 128).astype(np.uint8)).values()
        np.testing.assert_array_equal(a.astype(int) + 128, b)


def test_float32_gives_the_same_file(mobile):
    result = quantize_tflite(mobile, "float32")
    assert result.tflite == mobile
    assert (result.calibration, result.kept_float) == (None, ())


def test_same_arguments_same_bytes_whatever_the_batches_and_the_order(mobile):
    xs = images()
    first = quantize_tflite(mobile, "int8", samples=xs)
    batches = [np.concatenate(xs[i : i + 6]) for i in (12, 0, 6, 18)]
    named = [{next(iter(tflite.read(mobile).input_names)): x} for x in reversed(xs)]
    for other in (xs, batches, iter(named)):
        again = quantize_tflite(mobile, "int8", samples=other)
        assert again.tflite == first.tflite
        assert again.calibration.num_samples == 20


def test_given_ranges_replace_samples(mobile):
    first = quantize_tflite(mobile, "int8", samples=images())
    saved = json.loads(json.dumps(first.calibration.ranges))
    again = quantize_tflite(mobile, "int8", ranges=saved)
    assert again.tflite == first.tflite
    assert again.calibration.method == "user"
    name = next(iter(saved))
    with pytest.raises(errors.ConfigError, match="is missing"):
        quantize_tflite(mobile, "int8", ranges={name: (0, 1)})
    with pytest.raises(errors.ConfigError, match="two finite numbers"):
        quantize_tflite(mobile, "int8", ranges={**saved, name: (1, 0)})


def test_metadata_goes_through(mobile):
    tagged = metadata.put_json(mobile, {"labels": ["a"]})
    result = quantize_tflite(tagged, "int8", samples=images())
    assert metadata.get_json(result.tflite) == {"labels": ["a"]}
    assert "min_runtime_version" in tflite.read(result.tflite).metadata


def test_a_rule_of_the_users_own_is_stronger_than_the_table(mobile, tmp_path):
    rules = list(recipe.get("int8").rules)
    rules.append({**rules[0], "operation": "HARD_SWISH"})
    path = tmp_path / "all_swish.json"
    path.write_text(json.dumps(rules))
    result = quantize_tflite(mobile, path, samples=images())
    assert "HARD_SWISH" not in {row.op for row in result.kept_float}
    assert result.recipe.name == "all_swish"

    first = tflite.read(mobile).ops[0]
    name = tflite.read(mobile).tensors[first.outputs[0]].name
    rules[1] = {"regex": name[:12], "operation": "*", "algorithm_key": "no_quantize"}
    path.write_text(json.dumps(rules))
    result = quantize_tflite(mobile, path, samples=images())
    assert result.kept_float[0].op == first.name
    assert "recipe" in result.kept_float[0].reason


def test_it_is_silent_and_leaves_logging_alone(mobile, capfd):
    before = list(logging.getLogger().handlers)
    quantize_tflite(mobile, "int8", samples=images())
    assert logging.getLogger().handlers == before
    said = capfd.readouterr()
    assert said.out == ""
    # The runtime itself says once a process that there is XNNPACK.
    assert [
        line for line in said.err.splitlines() if "XNNPACK delegate" not in line
    ] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "pass samples"),
        ({"samples": []}, "no calibration samples"),
        ({"recipe_name": "int9"}, "Did you mean 'int8'"),
        ({"calibration": "minmaxx"}, "Did you mean 'minmax'"),
        ({"io": "int4"}, "Unknown io 'int4'"),
        ({"recipe_name": "float16", "io": "int8"}, "needs a static recipe"),
        ({"keep_float": "gpu"}, "Unknown policy 'gpu'"),
        ({"samples": [np.zeros((1, 8, 8, 3), np.float32)]}, r"\[1, 8, 8, 3\]"),
        ({"samples": [np.zeros((1, 16, 16, 3), np.uint8)]}, "takes float32"),
        ({"recipe_name": "nosuch.json"}, "Cannot read the recipe"),
    ],
)
def test_what_cannot_be_is_one_line(mobile, arguments, message):
    given = {"recipe_name": "int8", **arguments}
    if "samples" not in given and message != "pass samples":
        given["samples"] = images(count=1)
    with pytest.raises(errors.ConfigError, match=message) as caught:
        quantize_tflite(mobile, **given)
    assert "\n" not in str(caught.value)


def test_a_nan_names_its_tensor(mobile):
    x = images(count=1)[0]
    x[0, 3, 3, 1] = np.nan
    with pytest.raises(errors.QuantizationError, match="holds a NaN"):
        quantize_tflite(mobile, "int8", samples=[x])


@pytest.mark.parametrize("name", ["int8", "dynamic_int8"])
def test_a_quantized_model_goes_through_unharmed(mobile, name):
    done = quantize_tflite(mobile, name, samples=images()).tflite
    again = quantize_tflite(done, "int8", samples=images())
    assert again.tflite == done
    assert "quantized already" in again.note


def test_float16_weights_are_quantized_as_float32_ones_are(mobile):
    half = quantize_tflite(mobile, "float16").tflite
    twice = quantize_tflite(half, "int8", samples=images()).tflite
    once = quantize_tflite(mobile, "int8", samples=images()).tflite
    x = images(count=1, seed=9)[0]
    [a], [b] = (tflite.run(file, x).values() for file in (twice, once))
    assert np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_most_recipes_are_upstreams():
    names = {recipe_names.ALIASES.get(n, n) for n in quantization.recipe_names()}
    assert len([name for name in names if hasattr(upstream, name)]) >= 6


@pytest.mark.parametrize("name", quantization.recipe_names())
def test_recipes_of_upstreams_names_are_upstreams(name):
    rules = recipe.get(name).rules
    full_name = recipe_names.ALIASES.get(name, name)
    if name == "float32":
        assert rules == ()
    elif name == "float16":
        assert rules[0]["algorithm_key"] == "float_casting"
    elif hasattr(upstream, full_name):  # Else it is our own.
        (truth,) = getattr(upstream, full_name)()
        for key in ("regex", "operation", "algorithm_key"):
            assert rules[0][key] == truth[key]
        for key, value in rules[0]["op_config"].items():
            theirs = truth["op_config"][key]
            if isinstance(value, dict):
                assert value == {k: theirs[k] for k in value}
            else:
                assert value == theirs


@pytest.mark.parametrize(
    "content", ["{", "{}", '[{"regex": ".*"}]', "[1]", '[{"algorithm_key": "x"}]']
)
def test_a_recipe_file_must_hold_rules(tmp_path, content):
    path = tmp_path / "own.json"
    path.write_text(content)
    with pytest.raises(errors.ConfigError, match="recipe"):
        recipe.get(path)


def test_a_recipe_that_upstream_refuses_is_a_config_error(mobile, tmp_path):
    rules = [{**recipe.get("int8").rules[0], "algorithm_key": "magic"}]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(rules))
    with pytest.raises(errors.ConfigError, match="magic"):
        quantize_tflite(mobile, path, samples=images())


def test_scales_that_end_the_runtime_are_refused_before_it_loads():
    """XNNPACK's factor between the scales of a convolution is below 256."""
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    spec = tf.TensorSpec((1, 8, 8, 3), tf.float32)
    model = small_models.convert_function(
        lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"), [spec]
    )
    xs = small_models.samples((1, 8, 8, 3))
    quantized = quantize_tflite(model, samples=xs).tflite
    [op] = [o for o in tflite.read(quantized).graphs[0].ops if o.name == "CONV_2D"]
    scales = [
        tflite.read(quantized).tensors[i].quantization.scale.max()
        for i in op.inputs[:2]
    ]
    for factor, is_refused in ((250, False), (260, True)):
        flat = flatbuffer.unpack(quantized)
        output = flat.subgraphs[0].tensors[op.outputs[0]]
        output.quantization.scale = [float(np.prod(scales) / factor)]
        file = flatbuffer.pack(flat)
        if is_refused:
            with pytest.raises(errors.ConversionError, match="a factor of 260"):
                tflite.Runner(file)
        else:
            tflite.Runner(file)
