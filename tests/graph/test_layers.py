"""Every layer of both Keras, written in both: alike in inference and in training."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.graph import layer_table as table
from tests.graph import models
from tfslim import errors, ops
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget, channels, proof, surgery
from tfslim.pruning.prune import prune_channels

PAIRS = [
    pytest.param(
        k, row, id=f"{k.__name__}-{row.name}", marks=[pytest.mark.slow] * row.slow
    )
    for k in (tf_keras, keras)
    for row in table.rows(k)
]
TARGETS = ("tf_keras", "keras")


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_every_layer_has_a_row_or_a_reason(k):
    known = {row.layer for row in table.ROWS} | set(table.NO_ROW)
    there = {
        name: thing
        for name, thing in vars(k.layers).items()
        if inspect.isclass(thing) and not name.startswith("_")
    }
    # MaxPool2D is MaxPooling2D by another name.
    named = {thing for name, thing in there.items() if name in known}
    missing = sorted(name for name, thing in there.items() if thing not in named)
    assert not missing, f"no row in layer_table.ROWS and no reason: {missing}"


def _feed(x):
    return [tf.constant(v) for v in x] if isinstance(x, list) else tf.constant(x)


def _outputs(model, x, training):
    found = tf.nest.flatten(model(_feed(x), training=training))
    return [np.asarray(output) for output in found]


def _built(row, k):
    k.utils.set_random_seed(1)
    model = table.build(row, k)
    if row.label != "adapted" and model.trainable_weights:
        models.randomize(model)
    return model


def _assert_near(found, wanted):
    assert [f.shape for f in found] == [w.shape for w in wanted]
    for one, other in zip(found, wanted, strict=True):
        if other.dtype.kind in "fc":
            scale = max(np.abs(other).max(initial=0.0), 1e-6)
            assert np.abs(one - other).max(initial=0.0) <= 1e-5 * scale
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("k", "row"), PAIRS)
def test_written_layer_does_the_same(k, row):
    x, many = table.batch(row), table.batch(row, 400 if _is_noise(row) else 60)
    for target in TARGETS:
        model = _built(row, k)
        graph = graph_keras.read(model)
        crosses = target != k.__name__
        reason = row.refused if crosses and row.refused else row.unreadable
        if reason:
            with pytest.raises(errors.GraphError, match=reason) as caught:
                graph_keras.write(graph, target)
            assert "\n" not in str(caught.value)
            continue
        written = graph_keras.write(graph, target)
        _assert_near(_outputs(written, x, False), _outputs(model, x, False))
        _assert_trains_alike(row, model, written, many)
        if not (crosses and row.label == "hard_sigmoid"):  # Scaled with the slope.
            _assert_same_state(model, written)


def _is_noise(row):
    return row.layer in ops.keras("noise")


def _assert_trains_alike(row, model, written, x):
    keras.utils.set_random_seed(2)
    first, again = (_outputs(model, x, True) for _ in range(2))
    ours, ours_again = (_outputs(written, x, True) for _ in range(2))
    is_random = not all(map(np.array_equal, first, again))
    assert is_random == (not all(map(np.array_equal, ours, ours_again)))
    if _is_noise(row):
        # 400 x 4 draws of a rate of 0.4: four standard deviations.
        zeros = [np.mean(out[0] == 0) for out in (first, ours)]
        assert abs(zeros[0] - zeros[1]) < 0.07
        spread = [np.std(out[0]) for out in (first, ours)]
        assert abs(spread[0] - spread[1]) < 0.1 * spread[0]
    elif not is_random:
        for one, other in zip(first, ours, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


def _assert_same_state(model, written):
    """Statistics were updated alike; the fused kernel's variance is n / (n - 1)."""
    ours, theirs = map(graph_keras.own_variables, (written, model))
    for layer, weights in theirs.items():
        for name, variable in weights.items():
            np.testing.assert_allclose(
                np.asarray(ours[layer][name]),
                np.asarray(variable),
                rtol=0.02,
                atol=1e-5,
            )


# Give another size in training, or in inference, than Keras says.
_SIZES_VARY = {"RandomCrop", "RandomHeight", "RandomWidth"}


def _between(row, k):
    """A network around the layer, None where it takes no channels of a convolution."""
    [shape, *others] = row.inputs
    if others or row.call or row.kind not in ("float", "zeros", "image"):
        return None
    if row.unreadable or row.layer in _SIZES_VARY:
        return None
    rank = len(shape) - 1
    if rank not in (0, 1, 2, 3):
        return None
    make = k.layers.Dense if rank == 0 else getattr(k.layers, f"Conv{rank}D")
    options = {"padding": "same"} if rank else {}
    x = k.Input(shape)
    y = make(8, *([3] if rank else []), name="before", **options)(x)
    # Back to what the row's layer expects, such as three colors.
    y = make(shape[-1], *([1] if rank else []), name="narrow", **options)(y)
    y = k.layers.Flatten()(row.make(k)(y))
    return k.Model(x, k.layers.Dense(2, name="head")(y))


@pytest.mark.parametrize(("k", "row"), PAIRS)
def test_network_around_the_layer_can_be_cut(k, row):
    model = _between(row, k)
    if model is None:
        return
    graph = graph_keras.read(model)
    found = channels.analyze(graph)
    keep = {group.name: np.arange(len(group)) % 2 == 0 for group in found.groups}
    assert "before" in keep
    assert ("narrow" in keep) or row.layer not in ops.keras("idle")
    smaller, _ = surgery.cut_channels(graph, keep, channels=found)
    written = graph_keras.write(smaller, k.__name__)
    [inputs] = proof.random_inputs(smaller)
    assert written(inputs).shape == (2, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("k", "row"), PAIRS)
def test_network_around_the_layer_is_pruned_with_proof(k, row):
    model = _between(row, k)
    if model is None:
        return
    half = budget.Budget(pruning_ratio=0.5, divisor=1)
    smaller, report = prune_channels(model, budget=half)
    assert report.error < 1e-4
    assert smaller.count_params() < model.count_params()


@keras.saving.register_keras_serializable(package="tests")
class _Emptying(keras.layers.Layer):
    """Takes out of its config what it has used, as StackedRNNCells does."""

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs):
        return inputs * self.scale[0]

    def get_config(self):
        return {**super().get_config(), "scale": {"first": self.scale[0]}}

    @classmethod
    def from_config(cls, config):
        return cls([config["scale"].pop("first")], name=config["name"])


def test_a_graph_is_written_as_often_as_asked():
    source = keras.Input((2,))
    graph = graph_keras.read(keras.Model(source, _Emptying([3.0])(source)))
    for _ in range(2):
        written = graph_keras.write(graph, "keras")
        assert np.asarray(written(tf.ones((1, 2)))).tolist() == [[3.0, 3.0]]
