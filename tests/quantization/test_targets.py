"""Targets: files without float, files for a GPU, and what is said of what cannot be."""

import functools
import json

import numpy as np
import pytest
import small_models

from tfslim import errors, quantize_tflite, targets, tflite
from tfslim.quantization import Options, quantize_accurately
from tfslim.quantize import main

SHAPE = (1, 8, 8, 4)
_RANDOM = np.random.default_rng(0)
KERNEL = _RANDOM.normal(size=(3, 3, 4, 8)).astype(np.float32) / 4
FACTOR = _RANDOM.normal(size=(8, 8, 8)).astype(np.float32)
SAMPLES = [_RANDOM.normal(size=SHAPE).astype(np.float32) for _ in range(12)]


def _calls():
    import tensorflow as tf

    return {
        "ABS": tf.abs,
        "NEG": tf.negative,
        "SQUARE": tf.square,
        "EXP": lambda x: tf.exp(x * 0.5),
        "LOG": lambda x: tf.math.log(tf.abs(x) + 0.5),
        "ELU": tf.nn.elu,
        "LEAKY_RELU": tf.nn.leaky_relu,
        "MINIMUM": lambda x: tf.minimum(x, 0.5 - x),
        "MINIMUM of a constant": lambda x: tf.minimum(x, 0.3),
        "MAXIMUM beyond its input": lambda x: tf.maximum(x, 3.0 * tf.exp(-x * x)),
        "TILE": lambda x: tf.tile(x, [1, 1, 2, 1]),
        "DEPTH_TO_SPACE": lambda x: tf.nn.depth_to_space(x, 2),
        "REDUCE_MAX": lambda x: tf.reduce_max(x, 1, keepdims=True),
        "SPLIT": lambda x: tf.multiply(*tf.split(x, 2, -1)),
        "SPLIT with an output unread": lambda x: tf.split(x, 4, -1)[1],
        "SPLIT_V": lambda x: tf.concat(tf.split(x, [2, 6], -1)[::-1], -1),
        "UNPACK and ADD_N": lambda x: tf.add_n(tf.unstack(x, axis=1)[:3]),
        "PACK": lambda x: tf.stack([x, x * 0.5], -1),
        "GREATER and SELECT": lambda x: tf.where(x > 0.2, x, x * 0.3),
        "SELECT of a constant": lambda x: tf.where(x > 0.2, x, 0.1),
        "CAST of a comparison": lambda x: tf.cast(x > 0.2, tf.float32) * x,
        "TOPK_V2": lambda x: tf.math.top_k(x, 3)[0],
        "REVERSE_V2": lambda x: tf.reverse(x, [1]),
        "BATCH_MATMUL": lambda x: tf.matmul(tf.reshape(x, (1, 8, 8, 8)), FACTOR),
        "LOG_SOFTMAX": tf.nn.log_softmax,
        "L2_NORMALIZATION": lambda x: tf.math.l2_normalize(x, -1),
        "PRELU": lambda x: tf.nn.relu(x) - 0.2 * tf.nn.relu(-x),
        "DIV": lambda x: x / (tf.abs(x[:, ::-1]) + 0.7),
        "SPACE_TO_BATCH_ND": lambda x: tf.space_to_batch(x, [2, 2], [[1, 1], [0, 0]]),
    }


@functools.cache
def _model(name):
    import tensorflow as tf

    call = _calls()[name]
    return small_models.convert_function(
        lambda x: call(tf.nn.conv2d(x, KERNEL, 1, "SAME")), [tf.TensorSpec(SHAPE)]
    )


def _floats(content):
    return [t.name for t in tflite.read(content).tensors if "float" in t.dtype]


def _reals(content, x):
    """Runs a file with integer ends on reals."""
    runner = tflite.Runner(content)
    (entry,), (end, *_) = runner.model.inputs, runner.model.outputs
    limits = np.iinfo(entry.dtype)
    steps = np.rint(x / entry.quantization.scale[0]) + entry.quantization.zero_point[0]
    found = runner(np.clip(steps, limits.min, limits.max).astype(entry.dtype))
    values = next(iter(found.values())).astype(np.float32)
    return (values - end.quantization.zero_point[0]) * end.quantization.scale[0]


def _error_db(content, model):
    pairs = [
        (next(iter(tflite.run(model, x).values())), _reals(content, x)) for x in SAMPLES
    ]
    truth, found = (
        np.stack(part).astype(np.float64) for part in zip(*pairs, strict=True)
    )
    return 10 * np.log10((truth**2).sum() / ((truth - found) ** 2).sum())


@pytest.mark.parametrize("name", _calls())
def test_no_float_is_left_and_the_answers_stay(name):
    model = _model(name)
    done = quantize_tflite(model, samples=SAMPLES, target="full_integer")
    content = tflite.read(done.tflite)
    assert _floats(done.tflite) == []
    assert [t.dtype for t in (*content.inputs, *content.outputs)] == ["int8"] * 2
    assert not done.kept_float
    # A comparison may fall the other way a step from its threshold.
    is_choice = any(word in name for word in ("GREATER", "SELECT", "CAST"))
    assert _error_db(done.tflite, model) > (22 if is_choice else 27)


def test_one_scale_is_chosen_where_the_kernel_wants_one():
    content = quantize_tflite(
        _model("MINIMUM"), samples=SAMPLES, target="full_integer"
    ).tflite
    graph = tflite.read(content).graphs[0]
    (op,) = [op for op in graph.ops if op.name == "MINIMUM"]
    scales = {
        float(graph.tensors[i].quantization.scale[0]) for i in (*op.inputs, *op.outputs)
    }
    assert len(scales) == 1


def test_uint8_ends_are_those_of_int8_moved():
    model = _model("ABS")
    files = [
        quantize_tflite(model, samples=SAMPLES, target="full_integer", io=io).tflite
        for io in ("int8", "uint8")
    ]
    ends = [(*tflite.read(file).inputs, *tflite.read(file).outputs) for file in files]
    assert _floats(files[1]) == []
    for one, other in zip(*ends, strict=True):
        assert (one.dtype, other.dtype) == ("int8", "uint8")
        assert other.quantization.zero_point == one.quantization.zero_point + 128
    for x in SAMPLES[:3]:
        np.testing.assert_allclose(_reals(files[0], x), _reals(files[1], x), atol=1e-6)


def test_several_inputs_and_outputs():
    import tensorflow as tf

    def call(x, y):
        wide = tf.nn.conv2d(x, KERNEL, 1, "SAME")
        return wide, tf.abs(wide) * y, tf.argmax(wide, -1, output_type=tf.int32)

    specs = [tf.TensorSpec(SHAPE, name="x"), tf.TensorSpec((1, 8, 8, 8), name="y")]
    model = small_models.convert_function(call, specs)
    before = tflite.read(model)
    names = before.input_names
    xs = [
        {
            name: _RANDOM.normal(size=before.tensors[index].shape).astype(np.float32)
            for name, index in names.items()
        }
        for _ in range(8)
    ]
    done = quantize_tflite(model, samples=xs, target="full_integer").tflite
    content = tflite.read(done)
    assert _floats(done) == []
    assert list(content.input_names) == list(names)
    assert list(content.output_names) == list(before.output_names)
    assert sorted(t.dtype for t in content.outputs) == ["int32", "int8", "int8"]


@pytest.fixture(scope="module")
def sine():
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    x = inputs = tf_keras.Input((8, 8, 4), batch_size=1)
    x = tf_keras.layers.Conv2D(4, 3, name="conv")(x)
    x = tf_keras.layers.Lambda(tf.sin, name="curve")(x)
    outputs = tf_keras.layers.Conv2D(2, 3, name="last")(x)
    return small_models.convert(tf_keras.Model(inputs, outputs))


def test_what_cannot_be_integer_is_named_with_its_layer(sine):
    with pytest.raises(
        errors.QuantizationError, match="SIN of 'curve': It has no INT8"
    ):
        quantize_tflite(sine, samples=SAMPLES, target="full_integer")


def test_the_command_writes_nothing_then(sine, tmp_path, capsys):
    model, out = tmp_path / "m.tflite", tmp_path / "q.tflite"
    model.write_bytes(sine)
    np.savez(tmp_path / "set.npz", x_train=np.concatenate(SAMPLES))
    argv = ["quantize", str(model), f"--data=npz:{tmp_path}/set.npz", f"--out={out}"]
    argv += ["--preprocessing=raw", "--target=full_integer", "--task=regression"]
    assert main(argv) == 1
    assert "SIN of 'curve'" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tflite", "set.npz"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"io": "float"}, "io='float' is not for the target 'full_integer'"),
        ({"recipe_name": "float16"}, "'float16' is not for the target"),
        ({"layers": {"conv": "float32"}}, "no layer can take a recipe of its own"),
        ({"target": "full_intger"}, "Did you mean 'full_integer'"),
        ({"target": "gpu", "recipe_name": "int8"}, "Use float16"),
    ],
)
def test_contradictions_are_refused(sine, given, message):
    given = {"target": "full_integer", "samples": SAMPLES, **given}
    with pytest.raises(errors.ConfigError, match=message):
        quantize_tflite(sine, **given)


def test_a_float_file_is_mended_before_it_loses_its_float_ends(residual):
    xs = small_models.samples((1, 12, 12, 3), count=40)
    options = Options(target="full_integer", io="uint8")
    done = quantize_accurately(residual, samples=xs, options=options)
    content = tflite.read(done.quantized.tflite)
    assert "plain" in done.steps and _floats(done.quantized.tflite) == []
    assert {t.dtype for t in (*content.inputs, *content.outputs)} == {"uint8"}


def test_leaky_relu_is_int8_for_xnnpack_which_runs_it():
    for name in targets.get().integer:
        done = quantize_tflite(_model(name), samples=SAMPLES)
        assert tflite.coverage(done.tflite).is_whole
        assert [row.op for row in done.kept_float] == []


def _target(folder, **fields):
    path = folder / "mine.json"
    path.write_text(json.dumps({"what": "mine", **fields}))
    return path


def test_a_target_of_ones_own(tmp_path):
    row = {"operation": "ABS", "reason": "Mine has no INT8 ABS."}
    mine = _target(tmp_path, integer=["*"], keep_float={"static_int8": [row]})
    done = quantize_tflite(_model("ABS"), samples=SAMPLES, target=mine)
    assert [(k.op, k.reason) for k in done.kept_float] == [tuple(row.values())]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ens": ["int8"]}, "unknown field 'ens'"),
        ({"ends": ["int4"]}, "Unknown ends 'int4'"),
        ({"ends": []}, "'ends' must not be empty"),
        ({"floats": "some"}, "must be allowed or none"),
        ({"runs": ["CONV2D"]}, "Did you mean 'CONV_2D'"),
        ({"keep_float": {"static_int8": [{"operation": "ABS"}]}}, "list of rows"),
        ({"most_dimensions": -1}, "whole number"),
        ({"what": 3}, "must be a text"),
    ],
)
def test_a_wrong_target_is_one_clear_line(tmp_path, fields, message):
    with pytest.raises(errors.ConfigError, match=message):
        targets.get(str(_target(tmp_path, **fields)))


def test_every_shipped_target_can_be_read_and_has_its_proof():
    from tfslim import consumers

    assert targets.names()[0] == targets.DEFAULT
    for name in targets.names():
        assert targets.get(name).proof in consumers.CONSUMERS


def _gpu_model(call):
    import tensorflow as tf

    return small_models.convert_function(
        lambda x: call(tf.nn.conv2d(x, KERNEL, 1, "SAME")), [tf.TensorSpec(SHAPE)]
    )


def test_for_a_gpu_weights_are_halved_and_ops_it_lacks_are_said_in_others():
    import tensorflow as tf

    model = _gpu_model(lambda x: tf.add_n([x, tf.exp(x), x * x]))
    done = quantize_tflite(model, target="gpu")
    content = tflite.read(done.tflite)
    assert done.recipe.name == "float16"
    assert "float16" in {t.dtype for t in content.tensors}
    assert "ADD_N" not in {op.name for op in content.ops}
    x = SAMPLES[0]
    (truth,), (found,) = (tflite.run(file, x).values() for file in (model, done.tflite))
    np.testing.assert_allclose(found, truth, rtol=0.01, atol=0.01)


def test_what_a_gpu_does_not_run_is_named():
    import tensorflow as tf

    calls = {
        "5 dimensions": lambda x: tf.transpose(
            tf.reshape(x, (1, 8, 8, 2, 4)), (0, 1, 2, 4, 3)
        ),
        "It has no such op": lambda x: tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]),
        "It runs backwards": lambda x: x[:, ::-1] * 2.0,
    }
    for message, call in calls.items():
        with pytest.raises(errors.QuantizationError, match=message):
            quantize_tflite(_gpu_model(call), target="gpu")


def test_a_gpu_gets_fixed_sizes():
    import tensorflow as tf

    specs = [tf.TensorSpec((None, 8, 8, 4))]
    kernel = KERNEL
    model = small_models.convert_function(
        lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"), specs
    )
    assert tflite.read(model).is_dynamic
    done = quantize_tflite(model, target="gpu").tflite
    assert not any(t.is_dynamic for t in tflite.read(done).tensors)
    wide = small_models.convert_function(
        lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"),
        [tf.TensorSpec((1, None, None, 4))],
    )
    with pytest.raises(errors.QuantizationError, match="at run time only"):
        quantize_tflite(wide, target="gpu")
    known = quantize_tflite(wide, target="gpu", samples=SAMPLES).tflite
    assert tflite.read(known).inputs[0].shape_signature == SHAPE


@pytest.mark.slow
def test_vela_leaves_nothing_to_the_cpu(mobile):
    from tfslim import consumers

    vela = consumers.CONSUMERS.get("vela")
    if vela.missing():
        pytest.skip(vela.missing())
    xs = small_models.samples((1, 16, 16, 3))
    done = quantize_tflite(mobile, samples=xs, target="full_integer")
    assert vela.run(done.tflite, {}).fell_back == ()
