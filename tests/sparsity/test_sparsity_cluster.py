import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.sparsity import sparsity_models as models
from tfslim import errors, sparsity
from tfslim.sparsity import cluster

CLUSTERED = ["conv", "conv1d", "dense", "separable", "transposed"]


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_every_weight_has_the_nearest_value(k):
    model = models.kinds(k)
    truth = models.kernels(model)
    with sparsity.cluster_kernels(model, clusters=8) as training:
        models.fit(training)
    result = models.kernels(training.result)
    for name in CLUSTERED:
        values = np.unique(result[name])
        assert 2 <= len(values) <= 8
        nearest = np.abs(truth[name][..., None] - values).min(axis=-1)
        np.testing.assert_allclose(
            np.abs(truth[name] - result[name]), nearest, atol=1e-6
        )
    np.testing.assert_array_equal(result["depthwise"], truth["depthwise"])
    assert type(training.result) is type(model)
    assert training.report.layers["dense"] == "8 values"


def test_original_is_not_touched_and_centroids_learn():
    model = models.kinds()
    before = model.get_weights()
    x, _ = models.data(model)
    with sparsity.cluster_kernels(model, clusters=4) as training:
        start = training.model.get_layer("cluster_conv").cluster_centroids["kernel"]
        first = start.numpy().copy()
        models.fit(training, learning_rate=0.05, graph=True)
        assert 1e-6 < np.abs(start.numpy() - first).max() < 1.0
    # TF-MOT puts symbolic tensors in the place of the user's own kernels.
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(
        training.result(x), training.model(x, training=False), atol=1e-5
    )


def test_without_training_the_values_are_those_of_the_start():
    model = models.kinds()
    with sparsity.cluster_kernels(model, clusters=2) as training:
        pass
    assert len(np.unique(models.kernels(training.result)["conv"])) == 2


def test_zeros_stay_zeros():
    model = models.kinds()
    with sparsity.prune_magnitude(model, target=0.6, steps=1) as training:
        models.fit(training, steps=2)
    pruned = training.result
    with sparsity.cluster_kernels(
        pruned, clusters=6, keep_zeros=True, ignore=["dense"]
    ) as training:
        models.fit(training, learning_rate=0.05)
    zeros = {name: kernel == 0 for name, kernel in models.kernels(pruned).items()}
    result = models.kernels(training.result)
    for name in CLUSTERED:
        assert np.all(result[name][zeros[name]] == 0)
    assert all(len(np.unique(result[name])) <= 6 for name in CLUSTERED[:2])
    # A layer that is left alone trains on, and must not lose its zeros either.
    assert training.report.skipped["dense"] == "ignored as asked"
    assert np.any(result["dense"] != models.kernels(pruned)["dense"])


def test_small_and_emptied_kernels_are_left_alone():
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(2, name="small"),
            layers.Dense(20, name="half"),
            layers.Dense(8, name="large"),
        ]
    )
    half = np.zeros((2, 20), np.float32)
    half[0] = np.arange(1, 21)
    half[1, 0] = -1
    model.get_layer("half").set_weights([half, np.zeros(20)])
    with sparsity.cluster_kernels(model, clusters=8, keep_zeros=True) as training:
        pass
    assert training.report.skipped == {
        "small": "its 8 weights are no more than 8 clusters"
    }
    half[0, 6:] = 0.0
    model.get_layer("half").set_weights([half, np.zeros(20)])
    with sparsity.cluster_kernels(model, clusters=9, keep_zeros=True) as training:
        pass
    assert "too few weights are left" in training.report.skipped["half"]


def test_nearest_is_the_brute_force_nearest():
    random = np.random.default_rng(1)
    values = tf.Variable(random.normal(size=7).astype(np.float32))
    weights = random.normal(size=(3, 3, 5, 4)).astype(np.float32)
    found = cluster.Nearest(values).get_pulling_indices(weights)
    truth = np.abs(weights[..., None] - values.numpy()).argmin(axis=-1)
    np.testing.assert_array_equal(found, truth)


def test_gradient_of_a_value_is_the_mean_of_its_weights():
    model = tf_keras.Sequential(
        [tf_keras.layers.Input((30,)), tf_keras.layers.Dense(1, use_bias=False)]
    )
    kernel = np.repeat([[-1.0], [2.0]], [10, 20], axis=0)
    model.set_weights([kernel])
    x = np.arange(60, dtype=np.float32).reshape(2, 30)
    with sparsity.cluster_kernels(model, clusters=2) as training:
        training.model(x, training=True)  # The indices are known after a call.
        [wrapper] = [w for w in training.model.layers if hasattr(w, "pulling_indices")]
        values = wrapper.cluster_centroids["kernel"]
        values.assign([-1.0, 2.0])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(training.model(x, training=True))
        found = tape.gradient(loss, values)
    columns = x.sum(axis=0)
    truth = [columns[:10].mean(), columns[10:].mean()]
    np.testing.assert_allclose(found, truth, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 1}, "clusters must be at least 2, got 1"),
        ({"clusters": 2, "keep_zeros": True}, "clusters must be at least 3, got 2"),
        ({"clusters": 3.5}, "clusters must be a whole number, got 3.5"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        with sparsity.cluster_kernels(models.kinds(), **options):
            pass
