"""The whole sequence: each step is used only where it helps."""

import json

import numpy as np
import pytest
import small_models
from test_quantize_equalize import chain

from tfslim import errors, quantize_tflite, tflite
from tfslim.evaluation import compare_files
from tfslim.quantization import (
    Options,
    diagnose,
    quantize_accurately,
    read_ranges,
    write_ranges,
)

SHAPE = (1, 16, 16, 3)


def images(count=40, seed=0):
    return small_models.samples(SHAPE, count=count, seed=seed)


@pytest.fixture(scope="module")
def wounded():
    return chain(wound=100.0)


def quality(model, file, xs):
    return compare_files.FileErrors(model, xs).measure(file)[0]


def test_a_wounded_model_is_equalized_and_never_worse(wounded):
    xs, held_out = images(), images(seed=1)
    done = quantize_accurately(
        wounded, samples=xs, options=Options(calibration="minmax")
    )
    plain = quantize_tflite(wounded, "int8", samples=xs).tflite
    assert "equalized" in done.taken
    assert done.steps["equalized"] > done.steps["plain"] + 10
    assert done.quantized.calibration.equalized
    gain = quality(wounded, done.quantized.tflite, held_out)
    assert gain > quality(wounded, plain, held_out) + 10


def test_the_steps_are_what_the_files_measure(mobile):
    xs = images()
    options = Options(
        calibration="minmax", equalize=False, rounding="nearest", bias_correction="none"
    )
    done = quantize_accurately(mobile, samples=xs, options=options)
    assert done.quantized.tflite == quantize_tflite(mobile, "int8", samples=xs).tflite
    assert done.taken == ()
    assert done.steps == {
        "plain": pytest.approx(quality(mobile, done.quantized.tflite, xs[1::2]))
    }


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_io_is_the_same_file_at_the_ends(wounded, io):
    from tfslim import evaluation

    xs = images()
    by_float, by_integer = (
        quantize_accurately(
            wounded, samples=xs, options=Options(calibration="minmax", io=kind)
        )
        for kind in ("float", io)
    )
    assert by_float.taken == by_integer.taken
    for x in xs[:5]:
        (a,), (b,) = (
            evaluation.Predictor(done.quantized.tflite)(x)
            for done in (by_float, by_integer)
        )
        assert abs(a - b).max() < 1e-4 * abs(a).max()


def test_ranges_of_an_equalized_model_are_used_on_one(wounded, tmp_path):
    xs = images()
    options = Options(calibration="kl")
    first = quantize_accurately(wounded, samples=xs, options=options)
    path = tmp_path / "ranges.json"
    write_ranges(path, first.quantized.calibration, model=wounded)
    again = quantize_accurately(
        wounded, samples=xs, options=options, ranges=read_ranges(path)
    )
    assert again.quantized.tflite == first.quantized.tflite
    with pytest.raises(errors.ConfigError, match="equalized model: give the same"):
        quantize_accurately(wounded, ranges=read_ranges(path))


def test_other_recipes_go_through(mobile):
    done = quantize_accurately(mobile, "dynamic_int8")
    assert done.quantized.tflite == quantize_tflite(mobile, "dynamic_int8").tflite
    assert done.steps == {}


def test_what_is_typed_wrong_is_one_line(mobile):
    with pytest.raises(errors.ConfigError, match="not a generator"):
        quantize_accurately(mobile, samples=iter(images()))
    with pytest.raises(errors.ConfigError, match="Did you mean 'fast'"):
        Options(bias_correction="fats")


def _strange(name):
    """Files whose graphs are written by hand, of one input a [1, 16]."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = tf.constant(random.normal(size=(16, 16)), tf.float32)
    mask = np.zeros((1, 16), np.float32)
    mask[:, 8:] = -np.inf if name == "infinite mask" else -1e9

    def call(a):
        x = tf.matmul(a, kernel)
        if name == "unread part of constants":
            return x + tf.split(tf.constant(np.ones((1, 48), np.float32)) * 2, 3, -1)[1]
        if name == "unread part":
            return tf.split(x, 4, -1)[1]
        if name == "logits and probabilities":
            return x, tf.nn.softmax(x)
        if name == "input passed on":
            return x, a
        return tf.matmul(tf.nn.softmax(tf.tanh(x) + mask), kernel)

    spec = tf.TensorSpec((1, 16), tf.float32, name="a")
    return small_models.convert_function(call, [spec])


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("unread part", 30),
        ("unread part of constants", 30),
        ("logits and probabilities", 30),
        ("input passed on", 30),
        ("mask", 30),
        ("infinite mask", 30),
    ],
)
def test_strange_graphs_keep_their_outputs(name, least):
    """The SQNR of each output, worked out here, and that of the report."""
    model = _strange(name)
    xs = small_models.samples((1, 16), count=60)
    done = quantize_accurately(model, samples=xs)
    one, other = (tflite.Runner(f) for f in (model, done.quantized.tflite))
    test = small_models.samples((1, 16), count=20, seed=1)
    truth, found = ([list(run(x).values()) for x in test] for run in (one, other))
    assert [o.dtype for o in other.model.outputs] == ["float32"] * len(truth[0])
    columns = [zip(*rows, strict=True) for rows in (truth, found)]
    for old, new in zip(*columns, strict=True):
        noise = np.square(np.stack(old) - np.stack(new)).sum()
        ratio = 10 * np.log10(np.square(np.stack(old)).sum() / max(noise, 1e-20))
        assert ratio > least
    assert all(ratio > least for ratio in done.outputs.values())
    if "mask" in name:
        [kept] = [k for k in done.quantized.kept_float if k.op == "ADD"]
        assert "takes all levels" in kept.reason


def _classes(x):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(16, 30)).astype(np.float32)
    return tf.argmax(x @ kernel, -1)


def _scores_and_class(x):
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(16, 30)).astype(np.float32)
    scores = tf.nn.softmax(x @ kernel)
    return scores, tf.argmax(scores, -1)


@pytest.mark.parametrize("call", [_classes, _scores_and_class])
def test_classes_are_judged_by_what_they_are_chosen_from(call):
    import tensorflow as tf

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    assert "ARG_MAX" in {op.name for op in tflite.read(model).ops}
    xs = small_models.samples((1, 16), count=80)
    done = quantize_accurately(model, samples=xs)
    assert done.steps["plain"] > 25  # As logits; a wrong class of 30 is a few dB.
    assert len(done.outputs) == 1


def test_the_command_counts_classes(tmp_path):
    import tensorflow as tf

    from tfslim import quantize

    model = small_models.convert_function(_classes, [tf.TensorSpec((1, 16))])
    path = tmp_path / "net.tflite"
    path.write_bytes(model)
    xs = np.concatenate(small_models.samples((1, 16), count=120))
    truth = np.concatenate(
        [next(iter(tflite.run(model, x[None]).values())) for x in xs]
    )
    labels = np.where(np.arange(120) % 4, truth, (truth + 1) % 30)
    split = {"x_test": xs[:40], "y_test": labels[:40]}
    np.savez(tmp_path / "data.npz", x_train=xs[40:], y_train=labels[40:], **split)
    options = (f"--data=npz:{tmp_path / 'data.npz'}", "--preprocessing=raw")
    assert quantize.main(["tfslim.quantize", str(path), *options]) == 0
    report = json.loads((tmp_path / "net_int8.json").read_text())
    before, after = report["files"]
    assert (before["accuracy"], before["top-1 agreement"]) == (0.75, 1.0)
    found = tflite.Runner((tmp_path / "net_int8.tflite").read_bytes())
    chosen = np.array([next(iter(found(x[None]).values()))[0] for x in xs[:40]])
    assert after["top-1 agreement"] == pytest.approx((chosen == truth[:40]).mean())
    assert after["accuracy"] == pytest.approx((chosen == labels[:40]).mean())


def test_a_file_that_did_not_shrink_says_so(tmp_path, capsys):
    import tensorflow as tf

    from tfslim import quantize

    model = small_models.convert_function(tf.nn.softmax, [tf.TensorSpec((1, 16))])
    path = tmp_path / "net.tflite"
    path.write_bytes(model)
    xs = np.concatenate(small_models.samples((1, 16), count=60))
    np.savez(tmp_path / "data.npz", x_train=xs, y_train=np.arange(60) % 16)
    options = (f"--data=npz:{tmp_path / 'data.npz'}", "--preprocessing=raw")
    assert quantize.main(["tfslim.quantize", str(path), *options]) == 0
    assert "hardly smaller than the float one" in capsys.readouterr().out


def test_empty_activations_are_no_trouble():
    """TensorFlow's converter leaves some in an unrolled GRU."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    x = inputs = tf_keras.Input((6, 8), batch_size=1)
    x = layers.GRU(12, unroll=True, reset_after=False)(x)
    model = small_models.convert(tf_keras.Model(inputs, layers.Dense(4)(x)))
    assert 0 in {t.size for t in tflite.read(model).tensors if not t.is_constant}
    xs = small_models.samples((1, 6, 8))
    done = quantize_accurately(model, samples=xs)
    assert max(done.steps.values()) > 20
    found = diagnose(
        model, done.quantized.tflite, done.quantized.calibration.ranges, xs
    )
    assert "dead channels" not in {row.kind for row in found}


def test_outputs_that_are_always_zero_do_not_decide():
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = random.normal(size=(16, 16)).astype(np.float32)

    def call(x):
        hidden = tf.matmul(x, kernel)
        return hidden, tf.nn.relu(tf.tanh(hidden) - 2.0)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    xs = small_models.samples((1, 16), count=60)
    done = quantize_accurately(model, samples=xs)
    assert done.steps["plain"] > 25
    assert len(done.outputs) == 1


def test_samples_without_signal_do_not_decide():
    """Of a thresholded output two thirds are exactly zero."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernel = random.normal(size=(16, 8)).astype(np.float32)

    def call(x):
        return tf.nn.relu(tf.matmul(x, kernel) - 6.0)

    model = small_models.convert_function(call, [tf.TensorSpec((1, 16))])
    xs = small_models.samples((1, 16), count=120)
    silent = [not next(iter(tflite.run(model, x).values())).any() for x in xs]
    assert 10 < sum(silent) < 110
    file = quantize_tflite(model, samples=xs).tflite
    mean, worst = compare_files.FileErrors(model, xs).measure(file)
    assert mean > 20 and worst > -10


@pytest.mark.parametrize("recipe_name", ["static_wi8_ai16", "int8"])
def test_integer_logits_are_judged_as_reals(recipe_name):
    import tensorflow as tf

    from tfslim.quantization.rules import recipe

    kernel = np.random.default_rng(0).normal(size=(16, 10)).astype(np.float32)
    model = small_models.convert_function(
        lambda x: tf.nn.softmax(tf.matmul(x, kernel)), [tf.TensorSpec((1, 16))]
    )
    rules = list(recipe.get(recipe_name).rules)
    mine = recipe.Recipe("mine", (*rules, {**rules[0], "operation": "SOFTMAX"}))
    xs = small_models.samples((1, 16), count=60)
    done = quantize_accurately(model, mine, samples=xs)
    assert done.steps["plain"] > 30
