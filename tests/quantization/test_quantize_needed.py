"""Ranges that INT8 spends its steps on: what a later op clips needs none."""

import keras
import numpy as np
import pytest

from tfslim import convert_model, evaluation, quantize_tflite, tflite
from tfslim.quantization.integer import needed

OBSERVED = (-2.0, 6.0)


def _graph(function):
    inputs = keras.Input((4, 4, 2), batch_size=1)
    model = keras.Model(inputs, function(inputs))
    return model, tflite.read(convert_model(model).tflite).graphs[0]


def _ranges(graph, given):
    return {t.name: given(t.name) for t in graph.tensors if t.dtype == "float32"}


def _all_alike(graph, bounds=OBSERVED):
    return _ranges(graph, lambda name: bounds)


def _input(graph, found):
    return found[graph.inputs[0].name]


def test_a_clipped_input_needs_what_the_clip_leaves():
    ops = keras.ops
    _, graph = _graph(lambda x: ops.maximum(ops.minimum(x, 3.0), -1.0))
    ranges = _all_alike(graph) | {graph.outputs[0].name: (-1.0, 3.0)}
    found = needed.narrowed(graph, ranges)
    assert _input(graph, found) == (-1.0, 3.0)


def test_another_reader_keeps_the_whole_range():
    ops = keras.ops
    _, graph = _graph(lambda x: (ops.minimum(x, 3.0), ops.exp(x)))
    assert _input(graph, needed.narrowed(graph, _all_alike(graph))) == OBSERVED


def test_what_a_recurrent_layer_gives_it_reads_again():
    """Only the last step is read behind it, but every step is a state."""
    inputs = keras.Input((5, 3), batch_size=1)
    x = keras.layers.LSTM(4, return_sequences=True)(inputs)
    model = keras.Model(inputs, x[:, -1])
    graph = tflite.read(convert_model(model).tflite).graphs[0]
    (layer,) = (op for op in graph.ops if op.name == "UNIDIRECTIONAL_SEQUENCE_LSTM")
    given = graph.tensors[layer.outputs[0]].name
    last = graph.outputs[0].name
    assert given != last
    ranges = _all_alike(graph) | {last: (-0.5, 1.0)}
    assert needed.narrowed(graph, ranges)[given] == OBSERVED


def test_an_average_of_clipped_values_is_another_one():
    _, graph = _graph(keras.layers.AveragePooling2D(2))
    ranges = _all_alike(graph) | {graph.outputs[0].name: (-1.0, 1.0)}
    assert _input(graph, needed.narrowed(graph, ranges)) == OBSERVED


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        # What gives -1 to 3; 0 belongs to every range.
        (lambda x: x * 2.0, (-0.5, 1.5)),
        (lambda x: x * -2.0, (-1.5, 0.5)),
        (lambda x: x / 2.0, (-2.0, 6.0)),
        (lambda x: x + 1.0, (-2.0, 2.0)),
        (lambda x: 1.0 - x, (-2.0, 2.0)),
        (lambda x: x * np.float32([1.0, 2.0]), OBSERVED),  # A factor for each channel.
    ],
)
def test_a_constant_is_taken_back(function, wanted):
    ops = keras.ops
    _, graph = _graph(lambda x: ops.maximum(ops.minimum(function(x), 3.0), -1.0))
    ranges = _all_alike(graph) | {graph.outputs[0].name: (-1.0, 3.0)}
    assert _input(graph, needed.narrowed(graph, ranges)) == pytest.approx(wanted)


@pytest.mark.parametrize(("factor", "is_joined"), [(2.0, True), (8.0, False)])
def test_a_joined_tensor_takes_the_range_of_the_join_if_it_is_near(factor, is_joined):
    ops = keras.ops
    _, graph = _graph(lambda x: ops.concatenate([ops.tanh(x), x * factor], axis=-1))
    small, large = (-1.0, 1.0), (-factor, factor)
    wide = {graph.outputs[0].name}
    ranges = _ranges(graph, lambda name: large if name in wide else small)
    assert _input(graph, needed.narrowed(graph, ranges)) == small  # Of MUL and TANH.
    _, graph = _graph(lambda x: ops.concatenate([x, x * factor], axis=-1))
    wide = {graph.outputs[0].name} | {t.name for t in graph.tensors if "ul" in t.name}
    ranges = _ranges(graph, lambda name: large if name in wide else small)
    found = needed.narrowed(graph, ranges)
    assert _input(graph, found) == (large if is_joined else small)


@pytest.mark.parametrize("target", ["xnnpack", "full_integer"])
def test_selu_keeps_its_small_values(target):
    # Written as select(x > 0, a x, b (exp(x) - 1)): exp of what is not taken is large.
    model, _ = _graph(lambda x: keras.ops.selu(x))
    random = np.random.default_rng(0)
    samples = random.normal(0, 2, (50, 4, 4, 2)).astype(np.float32)
    made = quantize_tflite(
        convert_model(model).tflite, samples=[x[None] for x in samples], target=target
    )
    found = evaluation.Predictor(made.tflite)(samples)[0]
    wanted = np.asarray(model(samples))
    step = (wanted.max() - wanted.min()) / 255
    assert np.abs(found - wanted).max() < 4 * step
