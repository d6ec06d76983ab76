"""Fused recurrent ops and embedding tables in quantized files."""

import numpy as np
import pytest
import small_models

from tfslim import convert, tflite
from tfslim.quantization import quantize_tflite

tf_keras = pytest.importorskip("tf_keras")
STEPS, WIDTH = 8, 4


@pytest.fixture(scope="module")
def model():
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    x = inputs = tf_keras.Input((STEPS, WIDTH))
    x = layers.LSTM(16, return_sequences=True, name="first")(x)
    x = layers.LSTM(16, name="second")(x)
    return tf_keras.Model(inputs, layers.Dense(3, name="logits")(x))


@pytest.fixture(scope="module")
def samples():
    return small_models.samples((1, STEPS, WIDTH), count=40)


def decibels(model, content, samples):
    runner = tflite.Runner(content)
    found = np.concatenate([next(iter(runner(x).values())) for x in samples])
    truth = np.asarray(model(np.concatenate(samples)))
    return 10 * np.log10((truth**2).sum() / ((truth - found) ** 2).sum())


def fused(content):
    graph = tflite.read(content).graphs[0]
    return graph, [op for op in graph.ops if op.name.startswith("UNIDIRECTIONAL")]


def test_integer_lstm(model, samples):
    given = convert.convert_model(model).tflite
    done = quantize_tflite(given, "int8", samples=samples)
    assert not [row for row in done.kept_float if row.op.startswith("UNI")]
    graph, ops = fused(done.tflite)
    assert len(ops) == 2
    for op in ops:
        types = [graph.tensors[i].dtype for i in op.inputs if i >= 0]
        assert set(types[:9]) == {"int8"} and set(types[9:13]) == {"int32"}
        hidden, cell = (graph.tensors[op.inputs[i]] for i in (18, 19))
        assert (hidden.dtype, cell.dtype) == ("int8", "int16")
        exponent = np.log2(cell.quantization.scale[0])
        assert exponent == round(exponent) and -15 <= exponent <= -9
        # bias scale = input scale * weight scale, by the specification.
        source, kernel, bias = (graph.tensors[op.inputs[i]] for i in (0, 1, 12))
        wanted = source.quantization.scale[0] * kernel.quantization.scale[0]
        assert bias.quantization.scale[0] == pytest.approx(wanted)
    assert decibels(model, done.tflite, samples) > 30


def test_the_range_of_the_cell_is_that_of_all_steps(samples):
    """A cell that grows and is forgotten before the end."""
    layer = tf_keras.layers.LSTM(1)
    model = tf_keras.Sequential([tf_keras.Input((STEPS, WIDTH)), layer])
    kernel = np.zeros((WIDTH, 4), np.float32)
    kernel[0] = [0, 0, 10, 0]  # The first input is added,
    kernel[1] = [0, -60, 0, 0]  # the second lets forget.
    layer.set_weights(
        [kernel, np.zeros((1, 4), np.float32), np.array([9, 9, 0, 9], np.float32)]
    )
    x = np.zeros((1, STEPS, WIDTH), np.float32)
    x[:, :-1, 0], x[:, -1, 1] = 1.0, 1.0
    done = quantize_tflite(
        convert.convert_model(model).tflite, "int8", samples=[x, x / 2]
    )
    _, high = next(
        r for n, r in done.calibration.ranges.items() if n.endswith("cell_state")
    )
    assert high == pytest.approx(STEPS - 1, rel=0.02)


@pytest.mark.parametrize(
    ("recipe", "least", "dtype"),
    [("dynamic_int8", 35, "int8"), ("float16", 60, "float32")],
)
def test_weights_alone(recipe, least, dtype, model, samples):
    given = convert.convert_model(model).tflite
    done = quantize_tflite(given, recipe)
    graph, ops = fused(done.tflite)
    assert {graph.tensors[op.inputs[0]].dtype for op in ops} == {"float32"}
    assert graph.tensors[ops[1].inputs[5]].dtype == dtype
    assert len(done.tflite) < len(given)
    assert decibels(model, done.tflite, samples) > least


def test_a_simple_rnn_says_why_it_is_no_integer_op(samples):
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [tf_keras.Input((STEPS, WIDTH)), layers.SimpleRNN(16), layers.Dense(2)]
    )
    given = convert.convert_model(model).tflite
    done = quantize_tflite(given, "int8", samples=samples)
    (row,) = [row for row in done.kept_float if row.op.startswith("UNI")]
    assert "no integer" in row.reason and "weights" in row.reason
    graph, (op,) = fused(done.tflite)
    assert graph.tensors[op.inputs[1]].dtype == "int8"
    assert decibels(model, done.tflite, samples) > 25


@pytest.mark.parametrize(
    ("recipe", "share", "least"),
    [
        ("float16", 0.55, 60),
        ("dynamic_int8", 0.4, 35),
        ("int8", 0.4, 30),
        ("dynamic_wi4_afp32", 0.3, 15),
    ],
)
def test_embedding_tables(recipe, share, least):
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    tokens = tf_keras.Input((6,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(500, 64)(tokens))
    model = tf_keras.Model(tokens, layers.Dense(4, name="logits")(x))
    given = convert.convert_model(model).tflite
    random = np.random.default_rng(0)
    words = [random.integers(0, 500, (1, 6)).astype(np.int32) for _ in range(20)]
    samples = words if recipe == "int8" else None
    done = quantize_tflite(given, recipe, samples=samples)
    assert len(done.tflite) < share * len(given)
    assert decibels(model, done.tflite, words) > least
    names = [list(tflite.read(c).output_names) for c in (given, done.tflite)]
    assert names[0] == names[1] == ["logits"]
