"""Predictions corrected by what untrained cuts take, against hand-computed values."""

import numpy as np
import pytest

from tfslim import benchmark, tflite
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import measured_way
from tfslim.pruning import channels, prune
from tfslim.search import choose, space


def cost(latency_us):
    return space.Cost(latency_us, macs=1.0, params=1.0, size_bytes=1, memory_bytes=1)


def test_between_measurements_the_ratio_goes_by_the_logarithm():
    # 100 took half of what was predicted, 10 twice.
    correct = measured_way.interpolated(np.array([100.0, 10.0]), [50.0, 20.0])
    assert correct(cost(100.0)).latency_us == pytest.approx(50.0)
    assert correct(cost(10.0)).latency_us == pytest.approx(20.0)
    middle = np.sqrt(1000.0)
    assert correct(cost(middle)).latency_us == pytest.approx(middle)
    # Beyond them the last ratio holds.
    assert correct(cost(200.0)).latency_us == pytest.approx(100.0)
    assert correct(cost(5.0)).macs == 1.0


@pytest.fixture(scope="module")
def cutter():
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, activation="relu", name="a")(inputs)
    x = layers.Conv2D(16, 1, activation="relu", name="b")(x)
    x = layers.Dense(4, name="c")(layers.GlobalAveragePooling2D()(x))
    found = channels.analyze(graph_keras.read(tf_keras.Model(inputs, x)))
    scores = prune.score_by(
        found, "tf_keras", criterion="l1_norm", batches=None, loss=None
    )
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    options = benchmark.Options(num_runs=4, rounds=2, warmup_runs=1)
    return measured_way.Cutter(found, scores, "tf_keras", [images], options)


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_a_file_has_the_widths_of_its_choice(cutter, recipe):
    (first, *_) = cutter.scores.groups
    content = cutter.file(space.Choice.of({first: 0.5}, recipe))
    graph = tflite.read(content).graphs[0]
    kernels = [graph.tensors[op.inputs[1]] for op in graph.ops if op.name == "CONV_2D"]
    assert [kernel.shape[0] for kernel in kernels] == [16, 16]
    assert kernels[0].dtype == ("int8" if recipe == "int8" else "float32")


def way_of(latencies, ratios, name):
    return [
        choose.Step(space.Choice.of({name: ratio}, "float32"), cost(us), 0.0)
        for us, ratio in zip(latencies, ratios, strict=True)
    ]


def test_steps_are_timed_and_predictions_become_measurements(cutter):
    (first, *_) = cutter.scores.groups
    said = []
    way = way_of([8e6, 4e6], [0.0, 0.5], first)
    correct = measured_way.correction(way, cutter, on_step=said.append)
    # Such a network takes microseconds, not seconds.
    assert correct(way[0].cost).latency_us < 1e5
    assert said == ["timing 2 cuts in float32, untrained"]


def test_what_cannot_be_made_leaves_predictions_as_they_are(cutter):
    said = []
    way = [choose.Step(space.Choice.of({}, "no_such_recipe"), cost(7.0), 0.0)]
    correct = measured_way.correction(way, cutter, on_step=said.append)
    assert correct(cost(7.0)).latency_us == 7.0
    assert "no_such_recipe" in said[-1]
    assert "predictions stay" in said[-1]
