import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tests.sparsity import sparsity_models as models
from tfslim import errors, tflite
from tfslim.sparsity import sparsify as lib

RANDOM = np.random.default_rng(0)


def _classifier(k=tf_keras):
    layers = k.layers
    x = inputs = k.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))


X = RANDOM.normal(size=(24, 8, 8, 4)).astype(np.float32)
Y = RANDOM.integers(0, 3, 24)
SHORT = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "verbose": False}


@pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_magnitude(k):
    model = _classifier(k)
    before = [np.array(w) for w in model.get_weights()]
    done = tfslim.sparsify(
        model, (X, Y), validation=(X, Y), target=0.75, ignore="head", **SHORT
    )
    model_too, report = done
    assert model_too is done.model and report.skipped == {"head": "ignored as asked"}
    with pytest.warns(DeprecationWarning, match=r"is now .*report\.stages"):
        assert done.reports is report.stages
    assert type(done.model) is type(model) and not done.report.is_quantized
    assert np.mean(models.kernels(done.model)["conv"] == 0) == 0.75
    assert len(done.report.stages) == len(done.report.trainings) == 1
    assert "Pruned to 75% zeros" in str(done.report)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_best_epoch_is_one_at_full_sparsity():
    # The first epoch has the best accuracy: all later ones train on wrong labels.
    def train(epoch):
        labels = tf.where(epoch < 1, Y, (Y + 1) % 3)
        data = tf.data.Dataset.from_tensor_slices((X, labels)).batch(8)
        return data.repeat(4)

    done = tfslim.sparsify(
        _classifier(), train, validation=(X, Y), target=0.5, **{**SHORT, "epochs": 6}
    )
    assert done.report.trainings[0].best_epoch >= 2
    assert np.mean(models.kernels(done.model)["conv"] == 0) == 0.5


@pytest.mark.parametrize("method", ["2:4", "1:4", "block", "cluster"])
def test_other_patterns(method):
    done = tfslim.sparsify(_classifier(), (X, Y), method=method, clusters=4, **SHORT)
    kernel = models.kernels(done.model)["conv"]
    if method == "cluster":
        assert len(np.unique(kernel)) <= 4
    elif method == "block":
        blocks = kernel.reshape(-1, 2, 4)
        assert np.all((blocks == 0).all(axis=-1) == (blocks == 0).any(axis=-1))
        assert np.mean(kernel == 0) == pytest.approx(0.8, abs=0.01)
    else:
        m = int(method[0])
        groups = np.moveaxis(kernel, 2, -1).reshape(-1, 4)
        assert np.all((groups == 0).sum(axis=-1) == m)


@pytest.mark.parametrize(
    ("method", "stages"), [("qat", 1), pytest.param("pcqat", 3, marks=pytest.mark.slow)]
)
def test_quantized(method, stages):
    done = tfslim.sparsify(
        _classifier(keras), (X, Y), method=method, target=0.5, clusters=6, **SHORT
    )
    assert done.report.is_quantized and isinstance(done.model, tf_keras.Model)
    assert len(done.report.stages) == len(done.report.trainings) == stages
    file = tfslim.convert_quantized(done.model).tflite
    assert tflite.coverage(file).is_whole
    if method == "pcqat":
        assert "zeros and clusters kept" in done.report.stages[-1].method


def test_own_training():
    calls = []

    def train(model, callbacks):
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=callbacks)
        calls.append(model)

    done = tfslim.sparsify(
        _classifier(), train_fn=train, method="magnitude", target=0.6, steps=2
    )
    assert len(calls) == 1 and done.report.trainings == ()
    assert np.mean(models.kernels(done.model)["conv"] == 0) == pytest.approx(
        0.6, abs=0.01
    )


@pytest.mark.slow
def test_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    done = tfslim.sparsify(
        _classifier(), (X, Y), method="2:4", strategy=strategy, **SHORT
    )
    assert np.mean(models.kernels(done.model)["conv"] == 0) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magnitud"}, "Did you mean 'magnitude'"),
        ({"method": "4:2"}, "0 < m < n, got 4 and 2"),
        ({"train": None}, "either training data or a train_fn"),
        ({"train_fn": print}, "either training data or a train_fn"),
        ({"train": None, "train_fn": print}, "needs steps"),
        ({"mixed_precision": True}, "Train in float32"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"task": "clasification"}, "Did you mean 'classification'"),
        ({"ignore": ["head2"]}, "Did you mean 'head'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.sparsify(_classifier(), **{"train": (X, Y), **SHORT, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 2}, "clusters must be at least 3, got 2"),
        ({"clusters": 1000}, "'conv': its 288 weights are no more than 1000 clusters"),
        ({"keep": "zeroes"}, "Did you mean 'zeros'"),
    ],
)
def test_options_of_later_stages_are_checked_before_any_training(options, message):
    def train(model, callbacks):
        pytest.fail("A stage was trained.")

    with pytest.raises(errors.ConfigError, match=message):
        tfslim.sparsify(
            _classifier(), method="pcqat", train_fn=train, steps=1, **options
        )


@pytest.mark.parametrize("keep", ["zeros", "both"])
def test_clusters_keep_zeros_of_an_earlier_call(keep):
    model = _classifier()
    kernel = np.array(model.get_layer("conv").kernel)
    kernel[..., ::2] = 0.0
    model.get_layer("conv").kernel.assign(kernel)
    done = tfslim.sparsify(
        model, (X, Y), method="cluster", clusters=4, keep=keep, **SHORT
    )
    assert np.all(models.kernels(done.model)["conv"][..., ::2] == 0.0)


def test_every_method_has_stages():
    for method, stages in lib.METHODS.items():
        assert stages[-1] == "quantize" or not method.endswith("qat")
