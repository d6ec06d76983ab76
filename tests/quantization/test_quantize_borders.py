"""Outputs that a model reads itself, ranges, states and biases at the borders."""

import json

import numpy as np
import pytest
import small_models
from test_quantize_equalize import chain

from tfslim import errors, quantize_tflite, tasks, tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import (
    Calibration,
    TensorRange,
    calibrate,
    quantize_accurately,
    rank_layers,
    read_ranges,
    write_ranges,
)

_MIX = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)


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


@pytest.mark.parametrize(
    ("recipe_name", "io"),
    [
        ("int8", "float"),
        ("int8", "int8"),
        ("int8", "uint8"),
        ("dynamic_int8", "float"),
        ("float16", "float"),
    ],
)
def test_class_numbers_may_be_read_by_the_model_too(recipe_name, io):
    import tensorflow as tf

    def call(x):
        scores = tf.matmul(x, _MIX)
        chosen = tf.argmax(scores, -1)
        return scores, chosen, tf.matmul(tf.gather(_MIX, chosen), _MIX)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    xs = small_models.samples((1, 16))
    done = quantize_tflite(model, recipe_name, samples=xs, io=io)
    before, after = tflite.read(model), tflite.Runner(done.tflite).model
    for name, index in before.output_names.items():
        if before.tensors[index].dtype == "int64":
            assert after.tensors[after.output_names[name]].dtype == "int64"


def test_layers_before_inner_outputs_are_ranked_by_real_values():
    model = _read_again("conv")
    xs = small_models.samples((1, 8, 8, 3))
    rows = rank_layers(model, calibrate(model, xs), samples=xs)
    assert len(rows) == 2
    assert all(row.sqnr_db > 25 for row in rows)


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
    write_ranges(tmp_path / "a.json", ranges, model=residual)
    content = json.loads((tmp_path / "a.json").read_text())
    content["ranges"][0] |= dict(zip(("min", "max"), bounds, strict=True))
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(errors.ConfigError, match="the smaller first"):
        read_ranges(tmp_path / "b.json")
    with pytest.raises(errors.ConfigError, match="the smaller first"):
        Calibration("user", 0, {name: TensorRange(*bounds, "user")})


def test_ranges_of_the_equalized_model_are_of_no_other():
    model = chain(wound=100.0)
    xs = small_models.samples((1, 16, 16, 3), count=40)
    done = quantize_accurately(model, samples=xs)
    assert "equalized" in done.taken
    ranges = done.quantized.calibration
    with pytest.raises(errors.ConfigError, match="of a model that was equalized"):
        quantize_tflite(model, ranges=ranges)
    with pytest.raises(errors.ConfigError, match="of a model that was equalized"):
        rank_layers(model, ranges, samples=xs)
    with pytest.raises(errors.ConfigError, match="was not equalized"):
        quantize_tflite(done.source, ranges=calibrate(model, xs))
    again = quantize_accurately(model, samples=xs, ranges=ranges)
    assert again.quantized.tflite == done.quantized.tflite
    # A model that is equalized already is not so once more.
    once = quantize_accurately(done.source, samples=xs, ranges=ranges)
    assert once.source == done.source


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
    truth, found = (compare_files.outputs(file, xs)[0] for file in (model, done.tflite))
    assert tasks.sqnr_db(truth, found) > 30


def test_sixteen_bits_for_one_layer_keep_its_biases():
    import tensorflow as tf

    kernel = _MIX * np.float32([1e-4, 1] * 8)

    def call(x):
        return tf.matmul(tf.nn.relu(tf.matmul(x, kernel) + 1.0), _MIX)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    graph = tflite.read(model).graphs[0]
    names = [graph.name_of(op) for op in graph.ops if op.name == "FULLY_CONNECTED"]
    assert len(names) == 2
    xs = small_models.samples((1, 16))
    for chosen in (names[:1], names):
        layers = dict.fromkeys(chosen, "static_wi8_ai16")
        done = quantize_tflite(model, samples=xs, layers=layers)
        assert compare_files.FileErrors(model, xs).measure(done.tflite)[0] > 30


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
    (x,) = small_models.samples((1, 16), count=1)
    for name in ("dynamic_int8", "float16", "weight_only_wi8_afp32"):
        done = quantize_tflite(model, name).tflite
        (truth,), (found,) = (tflite.run(m, x).values() for m in (model, done))
        assert np.abs(found - truth).max() < 0.05 * np.abs(truth).max()
