"""Network slimming's cut on YOLO's graphs: routes, upsampling, residual trunks."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import errors, tasks
from tfslim.graph import keras as graph_keras
from tfslim.pruning import batch_statistics

BY_SCALE = tfslim.Scoring(criterion="bn_scale", normalization="none")
# Layers whose outputs are added up go together, under the name of the first.
TRUNKS = {f"stage{k}_down_conv": n for k, n in enumerate((1, 2, 8, 8, 4), start=1)}


def _randomized(name, alpha):
    """A network whose batch normalizations are those of a trained one, at random."""
    model = tfslim.build_model(
        name, input_shape=(64, 96, 3), num_classes=3, alpha=alpha
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [
                    rng.uniform(0, 1, shape) * rng.uniform(0.2, 1),
                    rng.normal(0, 0.3, shape),
                    rng.normal(0, 0.3, shape),
                    rng.uniform(0.5, 2, shape),
                ]
            )
    return model


@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        ("yolov3_tiny", 0.25),
        pytest.param("yolov3", 0.125, marks=pytest.mark.slow),
    ],
)
def test_a_global_cut_by_scale_reaches_all_but_the_outputs(name, alpha):
    model = _randomized(name, alpha)
    budget = tfslim.Budget(pruning_ratio=0.6, scope="global", divisor=1)
    smaller, report = tfslim.prune_channels(model, criterion=BY_SCALE, budget=budget)
    assert report.error < 1e-5
    assert report.skipped == {}
    assert [o.shape for o in smaller.outputs] == [o.shape for o in model.outputs]
    assert smaller.output_names == model.output_names
    # 60% of all gammas, counted once a group, and those are the smallest.
    gammas = {
        layer.name.removesuffix("_bn"): np.abs(layer.gamma.numpy())
        for layer in model.layers
        if isinstance(layer, tf_keras.layers.BatchNormalization)
    }
    everything, kept = [], []
    for group, mask in report.keep.items():
        block = group.removesuffix("_conv")
        members = [block]
        if group in TRUNKS and name == "yolov3":
            stage = group.split("_")[0]
            members += [f"{stage}_{i}_expand" for i in range(TRUNKS[group])]
        scale = np.mean([gammas.pop(member) for member in members], axis=0)
        assert scale[mask].min() >= scale[~mask].max(initial=0.0)
        everything.append(scale)
        kept.append(mask)
    assert gammas == {}, "every normalization belongs to a group"
    scores, masks = np.concatenate(everything), np.concatenate(kept)
    number = int(0.6 * len(scores) + 1e-9)
    expected = np.ones(len(scores), bool)
    expected[np.argsort(scores, kind="stable")[:number]] = False
    start = 0
    for mask in kept:
        part = expected[start : start + len(mask)]
        # A group of which all would go keeps its best channel.
        assert mask.sum() == max(1, part.sum())
        start += len(mask)
    assert masks.mean() == pytest.approx(0.4, abs=0.01)


def test_the_cut_network_computes_what_the_whole_one_does_without_dead_channels():
    model = _randomized("yolov3_tiny", 0.25)
    dead = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            # gamma = beta = 0: the channel is zero whatever comes in.
            alive = dead.random(layer.gamma.shape) < 0.5
            alive[0] = True
            gamma, beta, *statistics = layer.get_weights()
            layer.set_weights([gamma * alive, beta * alive, *statistics])
    share = np.mean(
        np.concatenate([layer.gamma.numpy() == 0 for layer in _norms(model)])
    )
    smaller, _ = tfslim.prune_channels(
        model,
        criterion=BY_SCALE,
        budget=tfslim.Budget(pruning_ratio=float(share), scope="global", divisor=1),
    )
    x = np.random.default_rng(2).random((2, 64, 96, 3), np.float32)
    assert smaller.count_params() < 0.4 * model.count_params()
    for ours, theirs in zip(
        smaller.predict(x, verbose=0), model.predict(x, verbose=0), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def _norms(model):
    return [
        layer
        for layer in model.layers
        if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]


def test_criteria_with_gradients_take_a_loss_per_head():
    model = _randomized("yolov3_tiny", 0.125)
    task = tasks.resolve("detection", model)
    rng = np.random.default_rng(3)
    x = rng.random((2, 64, 96, 3), np.float32)
    y = np.array([[[0.1, 0.2, 0.5, 0.6, 1]], [[0.5, 0.5, 0.7, 0.8, 2]]], np.float32)
    graph = graph_keras.read(model)
    [found] = batch_statistics.gather(
        graph,
        "tf_keras",
        batches=[(x, y)],
        needs=frozenset({"gradient"}),
        loss=task.loss,
    )
    kernel = model.get_layer("conv3_conv").kernel
    with tf.GradientTape() as tape:
        maps = model(x, training=False)
        total = sum(loss(y, m) for loss, m in zip(task.loss, maps, strict=True))
    expected = tape.gradient(total, kernel).numpy()
    np.testing.assert_allclose(
        found.weights["conv3_conv"]["kernel"]["gradient"],
        expected,
        atol=1e-4 * np.abs(expected).max(),
    )
    smaller, report = tfslim.prune_channels(
        model, pruning_ratio=0.5, criterion="taylor", data=[(x, y)], loss=task.loss
    )
    assert report.error < 1e-4
    assert smaller.count_params() < model.count_params()
    with pytest.raises(errors.ConfigError, match="2 outputs and 1 losses"):
        tfslim.prune_channels(
            model,
            pruning_ratio=0.5,
            criterion="taylor",
            data=[(x, y)],
            loss=task.loss[:1],
        )
