"""Pruning whole Keras models: the result, the proof, the budget, the report."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import tf_keras

from tests.graph import models
from tfslim import errors
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import (
    batch_statistics,
    budget,
    criteria,
    proof,
    prune,
    recalibrate,
    scores,
    surgery,
)

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])


def _residual(k, width=32):
    x = k.Input((8, 8, 3))
    y = k.layers.Conv2D(width, 3, padding="same", name="stem")(x)
    z = k.layers.Conv2D(2 * width, 1, use_bias=False, name="wide")(y)
    z = k.layers.ReLU()(k.layers.BatchNormalization(name="norm")(z))
    z = k.layers.Conv2D(width, 1, name="narrow")(z)
    y = k.layers.Add()([y, z])
    y = k.layers.GlobalAveragePooling2D()(y)
    return models.randomize(k.Model(x, k.layers.Dense(3, name="head")(y)))


@BOTH
def test_half_of_a_residual_model(k):
    model = _residual(k)
    before = model.get_weights()
    smaller, report = prune.prune_channels(model, pruning_ratio=0.5)
    assert isinstance(smaller, k.Model)
    widths = {
        layer.name: layer.output.shape[-1]
        for layer in smaller.layers
        if layer.name in ("stem", "wide", "narrow", "head")
    }
    assert widths == {"stem": 16, "wide": 32, "narrow": 16, "head": 3}
    # By hand: 27 * 16 + 16, 16 * 32, 4 * 32, 32 * 16 + 16, 16 * 3 + 3.
    assert smaller.count_params() == 448 + 512 + 128 + 528 + 51
    assert report.cut.after.params == smaller.count_params()
    assert report.cut.before.params == model.count_params()
    assert report.error < 1e-5
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@BOTH
def test_the_strongest_filters_stay(k):
    model = _residual(k)
    kernel = model.get_layer("wide").get_weights()[0]
    wanted = np.sort(np.argsort(-np.abs(kernel).sum(axis=(0, 1, 2)))[:32])
    smaller, report = prune.prune_channels(model, pruning_ratio=0.5)
    np.testing.assert_array_equal(np.flatnonzero(report.keep["wide"]), wanted)
    trunk = np.flatnonzero(report.keep["stem"])
    np.testing.assert_array_equal(
        smaller.get_layer("wide").get_weights()[0], kernel[:, :, trunk][..., wanted]
    )


@pytest.mark.parametrize(
    "k",
    [keras, pytest.param(tf_keras, marks=pytest.mark.slow)],
    ids=["keras", "tf_keras"],
)
def test_pruned_model_loads_without_tfslim(k, tmp_path):
    smaller, _ = prune.prune_channels(_residual(k), pruning_ratio=0.5)
    path, x = tmp_path / "model.keras", np.ones((1, 8, 8, 3), "float32")
    smaller.save(path)
    code = f"""
import sys
import numpy as np
import {k.__name__}
model = {k.__name__}.models.load_model({str(path)!r})
print(np.asarray(model(np.ones((1, 8, 8, 3), "float32"))).tolist())
assert "tfslim" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    loaded = np.array(eval(done.stdout.strip().splitlines()[-1]))
    np.testing.assert_allclose(loaded, smaller(x), rtol=1e-5, atol=1e-6)


@BOTH
def test_user_function_and_gradients(k):
    model = _residual(k)
    rng = np.random.default_rng(0)
    data = [
        (rng.normal(size=(8, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 8))
        for _ in range(2)
    ]
    seen = []
    narrow = model.get_layer("narrow").get_weights()[0]

    def saliency(kernel, gradient, *, channel_axis):
        if np.array_equal(kernel, narrow):
            seen.append(gradient)
        product = np.moveaxis(kernel * gradient, channel_axis, 0)
        return np.abs(product.reshape(len(product), -1).sum(axis=1))

    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    _, report = prune.prune_channels(
        model, pruning_ratio=0.5, criterion=saliency, data=data, loss=loss
    )
    assert report.error < 1e-5
    # A finite difference of the loss is the independent truth.
    layer = model.get_layer("narrow")
    weights = layer.get_weights()

    def value(step):
        moved = weights[0].copy()
        moved[0, 0, 5, 7] += step
        layer.set_weights([moved, weights[1]])
        return np.mean([float(loss(y, model(x))) for x, y in data])

    slope = (value(1e-2) - value(-1e-2)) / 2e-2
    layer.set_weights(weights)
    # Every batch is scored on its own; together they are the mean loss's gradient.
    per_batch = [gradient[0, 0, 5, 7] for gradient in seen]
    assert len(per_batch) == 2
    assert np.mean(per_batch) == pytest.approx(slope, rel=2e-2)
    with pytest.raises(errors.ConfigError, match="loss"):
        prune.prune_channels(model, pruning_ratio=0.5, criterion=saliency)


@pytest.mark.parametrize("limit", ["params", "macs", "weight_bytes"])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_limits_are_met_and_not_missed_by_far(limit, scope):
    model = _residual(tf_keras)
    whole = getattr(count.count(graph_keras.read(model)), limit)
    plan = budget.Budget(**{f"max_{limit}": whole / 2}, scope=scope, divisor=1)
    _, report = prune.prune_channels(model, budget=plan)
    left = getattr(report.cut.after, limit)
    assert 0.45 * whole < left <= 0.5 * whole


def test_a_measured_cost_is_a_limit_too():
    plan = budget.Budget(
        max_cost=20.0, cost=lambda graph: graph.nodes[1].shapes[0][-1], divisor=1
    )
    smaller, _ = prune.prune_channels(_residual(tf_keras), budget=plan)
    assert smaller.get_layer("stem").filters == 20


def test_limit_out_of_reach_is_refused():
    plan = budget.Budget(max_params=10)
    with pytest.raises(errors.ConfigError, match="cannot be met"):
        prune.prune_channels(_residual(tf_keras), budget=plan)


def test_ratios_ignore_and_report():
    plan = budget.Budget(ratios={"wid*": 0.75}, pruning_ratio=0.5, ignore=["ste*"])
    smaller, report = prune.prune_channels(_residual(tf_keras), budget=plan)
    assert smaller.get_layer("wide").filters == 16
    assert smaller.get_layer("stem").filters == 32
    text = str(report)
    assert "skipped: stem: ignored as asked" in text
    assert "64 -> 16" in text and "not compiled" in text
    with pytest.raises(errors.ConfigError, match="Did you mean 'stem'"):
        prune.prune_channels(
            _residual(tf_keras),
            budget=budget.Budget(pruning_ratio=0.5, ignore=["stme"]),
        )


def test_a_divisor_that_leaves_nothing_to_do_is_told():
    smaller, report = prune.prune_channels(
        _residual(tf_keras, width=8), pruning_ratio=0.3
    )
    assert smaller.count_params() == _residual(tf_keras, width=8).count_params()
    assert "divisor=16" in report.skipped["stem"]


def test_global_scope_takes_the_least_important_of_all():
    criterion = scores.Scoring(normalization="none")
    plan = budget.Budget(pruning_ratio=0.5, scope="global", divisor=1)
    model = _residual(tf_keras)
    kernel, *rest = model.get_layer("wide").get_weights()
    model.get_layer("wide").set_weights([kernel * 1e-3, *rest])
    _, report = prune.prune_channels(model, criterion=criterion, budget=plan)
    # All but one channel of the weak layer and none of the strong one.
    assert report.keep["wide"].sum() == 64 - 48
    assert report.keep["stem"].all()


def test_a_wrong_cut_does_not_pass(monkeypatch):
    def wrong(graph, keep, **options):
        masked = surgery.mask_channels(graph, keep, **options)
        stem = masked.layers["head"]
        weights = {**stem.weights, "bias": stem.weights["bias"] + 1.0}
        return masked.with_layers(
            {"head": type(stem)("head", stem.op, stem.config, weights)}
        )

    monkeypatch.setattr(
        prune, "surgery", type("S", (), {**vars(surgery), "mask_channels": wrong})
    )
    with pytest.raises(errors.VerificationError, match="differs"):
        prune.prune_channels(_residual(tf_keras), pruning_ratio=0.5)


@pytest.mark.parametrize("layer", ["activation", "Softmax"])
def test_a_softmax_does_not_hide_a_wrong_cut(layer):
    # The same shift of all logits, which the test above makes: no output changes.
    x = tf_keras.Input((4,))
    y = tf_keras.layers.Dense(32, name="hidden")(x)
    if layer == "activation":
        y = tf_keras.layers.Dense(3, activation="softmax", name="head")(y)
    else:
        y = tf_keras.layers.Softmax()(tf_keras.layers.Dense(3, name="head")(y))
    model = models.randomize(tf_keras.Model(x, y))
    graph = graph_keras.read(model)
    head = graph.layers["head"]
    weights = {**head.weights, "bias": head.weights["bias"] + 1.0}
    shifted = graph.with_layers({head.name: dataclasses.replace(head, weights=weights)})
    inputs = [proof.random_inputs(graph)]
    np.testing.assert_allclose(
        proof.run(model, graph, inputs=inputs[0])[0],
        proof.run(graph_keras.write(shifted), shifted, inputs=inputs[0])[0],
        rtol=1e-5,
    )
    assert proof.prove(graph, graph, kind="tf_keras", inputs=inputs) == 0.0
    with pytest.raises(errors.VerificationError, match="differs"):
        proof.prove(graph, shifted, kind="tf_keras", inputs=inputs)


def test_scale_width():
    smaller, _ = prune.scale_width(_residual(tf_keras), 0.25)
    assert smaller.get_layer("wide").filters == 16
    with pytest.raises(errors.ConfigError, match="alpha"):
        prune.scale_width(_residual(tf_keras), 1.5)


@BOTH
def test_mixed_precision_model_is_proved_in_float32(k):
    x = k.Input((6,))
    y = k.layers.Dense(64, dtype="mixed_bfloat16")(x)
    model = models.randomize(k.Model(x, k.layers.Dense(2, dtype="float32")(y)))
    smaller, report = prune.prune_channels(model, pruning_ratio=0.5)
    assert report.error < 1e-5
    assert smaller.layers[1].compute_dtype == "bfloat16"


@BOTH
def test_recalibration_finds_the_statistics_of_the_data(k):
    x = y = k.Input((4,))
    y = k.layers.BatchNormalization(name="first")(k.layers.Dropout(0.5)(y))
    y = k.layers.BatchNormalization(name="second", trainable=False)(y * 2.0)
    model = models.randomize(k.Model(x, y))
    gamma = model.get_layer("first").get_weights()[0]
    data = np.random.default_rng(0).normal(3.0, 2.0, (8, 64, 4)).astype("float32")
    fresh = recalibrate.recalibrate_batch_norm(model, data)
    _, _, mean, variance = fresh.get_layer("first").get_weights()
    whole = data.reshape(-1, 4)
    np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(variance, whole.var(axis=0), rtol=0.03)
    # Behind it, each batch was normalized by itself: variance (2 gamma)^2.
    variance = fresh.get_layer("second").get_weights()[3]
    np.testing.assert_allclose(variance, (2 * gamma) ** 2, rtol=0.03)
    assert not fresh.get_layer("second").trainable
    with pytest.raises(errors.DataError):
        recalibrate.recalibrate_batch_norm(model, [])


def test_gradients_need_targets():
    model = _residual(tf_keras)
    inputs = [np.zeros((1, 8, 8, 3), np.float32)]
    with pytest.raises(errors.ConfigError, match="targets"):
        prune.prune_channels(
            model, pruning_ratio=0.5, criterion="taylor", data=inputs, loss="mse"
        )


@BOTH
def test_gradients_by_finite_differences(k):
    """Gradients by activations and the Hessian's diagonal on a network by hand."""
    inputs = k.Input((2,), name="x")
    hidden = k.layers.Dense(2, use_bias=False, name="hidden")(inputs)
    hidden = k.layers.ReLU()(hidden)
    outputs = k.layers.Dense(1, use_bias=False, name="out")(hidden)
    model = k.Model(inputs, outputs)
    model.set_weights([np.array([[1.0, -1.0], [2.0, 1.0]]), np.array([[3.0], [5.0]])])
    x, y = np.array([[1.0, 2.0], [1.0, 0.5]], "float32"), np.array([[1.0], [0.0]])
    graph = graph_keras.read(model)
    needs = frozenset(["activations", "activation_gradients", "gradient"])
    [found] = batch_statistics.gather(
        graph,
        graph_keras.keras_of(model),
        batches=[(x, y.astype("float32"))],
        needs=needs,
        loss="mse",
    )
    seen = found.layers["hidden"]
    # relu([1 + 4, -1 + 2]) and relu([1 + 1, -1 + 0.5]).
    np.testing.assert_allclose(seen["activations"], [[5, 1], [2, 0]], rtol=1e-6)
    # Outputs 20 and 6: 2 (out - y) times the weights 3 and 5.
    np.testing.assert_allclose(
        seen["activation_gradients"], [[114, 190], [36, 60]], rtol=1e-5
    )
    # The mean over samples of 2 (out - y) h.
    np.testing.assert_allclose(
        found.weights["out"]["kernel"]["gradient"][:, 0],
        [(190 + 24) / 2, (38 + 0) / 2],
        rtol=1e-5,
    )


@BOTH
def test_hessian_of_a_linear_model_by_hand(k):
    inputs = k.Input((2,), name="x")
    model = k.Model(inputs, k.layers.Dense(1, use_bias=False, name="out")(inputs))
    x = np.array([[3.0, 0.5], [1.0, 0.5]], "float32")
    [found] = batch_statistics.gather(
        graph_keras.read(model),
        graph_keras.keras_of(model),
        batches=[(x, np.zeros((2, 1), "float32"))],
        needs=frozenset(["hessian"]),
        loss="mse",
    )
    diagonal = found.weights["out"]["kernel"]["hessian"][:, 0]
    # 2 x x' on average; the estimate by random signs errs by at most what is off the
    # diagonal, 2 * (3 * 0.5 + 1 * 0.5) / 2.
    assert abs(diagonal[0] - 10.0) <= 2.0 + 1e-5
    assert abs(diagonal[1] - 0.5) <= 2.0 + 1e-5


@BOTH
@pytest.mark.parametrize("criterion", criteria.CRITERIA.names())
def test_every_criterion_prunes(k, criterion):
    model = _residual(k)
    rng = np.random.default_rng(0)
    data = [(rng.normal(size=(4, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 4))]
    _, report = prune.prune_channels(
        model,
        criterion=criterion,
        budget=budget.Budget(pruning_ratio=0.5, divisor=1),
        data=data,
        loss="sparse_categorical_crossentropy",
    )
    assert report.error < 1e-5
    assert any(not kept.all() for kept in report.keep.values())
