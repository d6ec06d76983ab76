"""Cutting with few samples and no training, against numpy's least squares."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.graph.models import randomize
from tfslim import errors
from tfslim.data import dead_leaves
from tfslim.graph import ir, keras_run, segment
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget, least_squares, places, prune

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_without_ridge_the_fit_is_lstsq():
    rows, targets = _random(50, 6), _random(50, 3, seed=1)
    start = _random(6, 3, seed=2)
    kernel, constant = least_squares.fit(
        rows, targets, start=start, ridge=0.0, has_intercept=True
    )
    with_ones = np.concatenate([rows, np.ones((50, 1))], axis=1)
    wanted = np.linalg.lstsq(with_ones, targets, rcond=None)[0]
    np.testing.assert_allclose(kernel, wanted[:-1], atol=1e-9)
    np.testing.assert_allclose(constant, wanted[-1], atol=1e-9)
    kernel, constant = least_squares.fit(
        rows, targets, start=start, ridge=0.0, has_intercept=False
    )
    wanted = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(kernel, wanted, atol=1e-9)
    assert not constant.any()


def test_a_strong_ridge_stays_at_the_start():
    rows, targets, start = _random(9, 4), _random(9, 2, seed=1), _random(4, 2, seed=2)
    kernel, _ = least_squares.fit(
        rows, targets, start=start, ridge=1e9, has_intercept=True
    )
    np.testing.assert_allclose(kernel, start, atol=1e-6)


def _refitted_error(rows, kernels, kept):
    """The squared error of fitting what is kept to what all gave."""
    error = 0.0
    for kernel in kernels:
        wanted = rows @ kernel
        fitted = np.linalg.lstsq(rows[:, kept], wanted, rcond=None)[0]
        error += np.square(rows[:, kept] @ fitted - wanted).sum()
    return error


@pytest.mark.parametrize("readers", [1, 2])
def test_elimination_adds_the_error_that_lstsq_has(readers):
    rows = _random(80, 8) @ _random(8, 8, seed=1)  # Unknowns that say much alike.
    kernels = [_random(8, 3, seed=2 + n) for n in range(readers)]
    blocks = [np.array([n, n + 4]) for n in range(4)]
    systems = [(rows.T @ rows, kernel, blocks) for kernel in kernels]
    left, total = set(range(4)), 0.0
    for number, added in itertools.islice(least_squares.eliminate(systems), 3):
        tries = {
            one: _refitted_error(
                rows, kernels, np.concatenate([blocks[n] for n in left - {one}])
            )
            for one in left
        }
        assert number == min(tries, key=tries.get)
        total += added
        assert total == pytest.approx(tries[number], rel=1e-6)
        left -= {number}


def _with_copies(k, conv):
    """Eight channels of which four are multiples of the other four."""
    shape = (9, 9, 3) if conv else (6,)
    x = inputs = k.Input(shape)
    if conv:
        x = k.layers.Conv2D(8, 1, activation="relu", name="copies")(x)
        x = k.layers.Conv2D(4, 3, use_bias=False, name="reader")(x)
        x = k.layers.BatchNormalization(name="norm")(x)
        x = k.layers.GlobalAveragePooling2D()(x)
    else:
        x = k.layers.Dense(8, activation="relu", name="copies")(x)
    model = randomize(k.Model(inputs, k.layers.Dense(3, activation="softmax")(x)))
    kernel = _random(*([1, 1] if conv else []), shape[-1], 4)
    # Those with the larger kernels are as superfluous: no matter what L1 says.
    kernel = np.concatenate([kernel, 3.0 * kernel], axis=-1)
    model.get_layer("copies").set_weights([kernel, np.zeros(8)])
    return model


@BOTH
@pytest.mark.parametrize("conv", [False, True], ids=["dense", "conv"])
def test_copies_are_merged_exactly(k, conv):
    model = _with_copies(k, conv)
    shape = model.input_shape[1:]
    x = _random(100, *shape).astype("float32")
    smaller, report = tfslim.prune_channels(
        model,
        criterion="reconstruction",
        budget=budget.Budget(
            pruning_ratio=0.5, divisor=1, ignore=["reader"] if conv else []
        ),
        data=[x[:60], x[60:]],
    )
    kept = np.flatnonzero(report.keep["copies"])
    assert sorted(kept % 4) == [0, 1, 2, 3]
    fitted, _ = tfslim.reconstruct_kernels(
        model, smaller, keep=report.keep, data=[x], ridge=1e-7
    )
    test = _random(20, *shape, seed=5).astype("float32")
    wanted = np.asarray(model(test))
    assert np.abs(np.asarray(smaller(test)) - wanted).max() > 0.05
    np.testing.assert_allclose(np.asarray(fitted(test)), wanted, atol=1e-3)


def _residual(k, seed=0):
    x = inputs = k.Input((8, 8, 3))
    x = k.layers.Conv2D(12, 3, padding="same", name="stem")(x)
    for name in "ab":
        y = k.layers.ReLU()(x)
        y = k.layers.Conv2D(12, 3, padding="same", name=f"{name}1")(y)
        y = k.layers.ReLU()(y)
        y = k.layers.Conv2D(12, 3, padding="same", use_bias=False, name=f"{name}2")(y)
        y = k.layers.BatchNormalization(name=f"{name}_norm")(y)
        x = k.layers.Add(name=f"{name}_sum")([x, y])
    x = k.layers.GlobalAveragePooling2D()(k.layers.ReLU()(x))
    return randomize(k.Model(inputs, k.layers.Dense(4, name="out")(x)), seed)


@BOTH
def test_a_branch_makes_up_for_what_its_shortcut_lost(k):
    model = _residual(k)
    x, test = (_random(60, 8, 8, 3, seed=n).astype("float32") for n in (1, 2))
    smaller, report = tfslim.prune_channels(
        model,
        criterion="reconstruction",
        budget=budget.Budget(pruning_ratio=0.5, divisor=1, ignore=["stem"]),
        data=[x],
    )
    fitted, done = tfslim.reconstruct_kernels(
        model, smaller, keep=report.keep, data=[x]
    )
    # The first is behind no cut; b1 lost no inputs, but gets others.
    assert set(done.errors) == {"a2", "b1", "b2", "out"}
    assert not done.skipped

    def sums(one):
        probe = k.Model(one.input, one.get_layer("b_sum").output)
        return np.asarray(probe(test))

    wanted = sums(model)
    error, before = (np.linalg.norm(sums(m) - wanted) for m in (fitted, smaller))
    assert error < 0.75 * before
    # What b2 has to give is what the sum lacks, with the shortcut as it is now.
    graph = graph_keras.read(smaller)
    place = places.Places(graph).of("b2")
    assert graph.nodes[place.total.node].layer == "b_sum"
    assert graph.nodes[place.others[0].node].layer == "a_sum"
    assert place.norm == "b_norm"
    norm = fitted.get_layer("b_norm")
    old = smaller.get_layer("b_norm")
    assert np.abs(np.asarray(norm.moving_mean) - np.asarray(old.moving_mean)).max() > 0
    np.testing.assert_array_equal(norm.gamma, old.gamma)


def test_what_matters_to_the_output_is_cut_least():
    """Two equal branches, of which one reaches the output a hundredfold."""
    inputs = tf_keras.Input((5,))
    ends = []
    for name in ("loud", "quiet"):
        x = tf_keras.layers.Dense(16, activation="relu", name=name)(inputs)
        ends.append(tf_keras.layers.Dense(4, name=f"{name}_end")(x))
    model = tf_keras.Model(inputs, tf_keras.layers.Add()(ends))
    for name, factor in (("loud", 1.0), ("quiet", 0.01)):
        model.get_layer(name).set_weights([_random(5, 16), np.ones(16)])
        kernel = factor * _random(16, 4, seed=1)
        model.get_layer(f"{name}_end").set_weights([kernel, np.zeros(4)])
    _, report = tfslim.prune_channels(
        model,
        criterion="reconstruction",
        budget=budget.Budget(pruning_ratio=0.4, scope="global", divisor=1),
        data=[_random(300, 5).astype("float32")],
    )
    assert report.keep["loud"].sum() > 12
    assert report.keep["quiet"].sum() < 8


def test_readers_that_cannot_be_fitted_leave_a_group_whole():
    inputs = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Conv2D(8, 3, name="a")(inputs)
    x = tf_keras.layers.Conv2DTranspose(6, 3, name="up")(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(2, 1, name="end")(x))
    options = {
        "criterion": "reconstruction",
        "budget": budget.Budget(pruning_ratio=0.5, divisor=1),
    }
    smaller, report = tfslim.prune_channels(
        model, data=[_random(4, 8, 8, 3).astype("float32")], **options
    )
    assert smaller.get_layer("a").filters == 8
    assert smaller.get_layer("up").filters == 3
    assert "up" in report.skipped["a"]
    with pytest.raises(errors.ConfigError, match="pass data"):
        tfslim.prune_channels(model, **options)


def test_its_name_is_known_where_criteria_are_named():
    prune.check_criterion("reconstruction")
    with pytest.raises(errors.ConfigError, match="reconstructio"):
        prune.check_criterion("reconstructio")


@BOTH
def test_a_segment_computes_what_the_whole_computes(k):
    model = _residual(k)
    graph = graph_keras.read(model)
    kind = graph_keras.keras_of(model)
    place = {node.layer: n for n, node in enumerate(graph.nodes)}
    refs = [ir.TensorRef(place[name]) for name in ("a_sum", "b1", "out")]
    whole = keras_run.write(dataclasses.replace(graph, outputs=refs), kind)
    x = _random(2, 8, 8, 3).astype("float32")
    a_sum, b1, out = whole(x)
    part, read = segment.between(graph, {refs[0]}, wanted=refs[1:])
    assert read == [refs[0]]
    got = keras_run.write(part, kind)([a_sum])
    for one, other in zip(got, (b1, out), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-5)


def test_dead_leaves_are_smooth_but_for_edges():
    images = dead_leaves.dead_leaves(20, 32, width=24, seed=3)
    assert images.shape == (20, 32, 24, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(
        images, dead_leaves.dead_leaves(20, 32, width=24, seed=3)
    )
    values = images.astype(float)
    near = np.abs(np.diff(values, axis=2)).mean()
    far = np.abs(values[:, :, 12:] - values[:, :, :-12]).mean()
    assert near < 0.5 * far  # In noise they are equal.
    with pytest.raises(errors.ConfigError, match="count"):
        dead_leaves.dead_leaves(0, 8, width=8)
