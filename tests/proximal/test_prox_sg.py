"""Training with Prox-SG, ratios from the zeros, the cut and the retraining."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.training import digits
from tfslim import errors, tflite

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
DATA = digits.load()
SPLIT = {"train": DATA["train"], "validation": DATA["validation"]}


@pytest.mark.parametrize(
    "k",
    [
        pytest.param(tf_keras, marks=pytest.mark.slow, id="tf_keras"),
        pytest.param(keras, id="keras"),
    ],
)
def test_the_whole_procedure(k):
    model = digits.network(k)
    before = model.get_weights()
    smaller, report = tfslim.prox_sg(
        model,
        **SPLIT,
        task="classification",
        divisor=1,
        sparse_epochs=6,
        fine_tune_epochs=6,
        sparse_learning_rate=0.1,  # It has learnt nothing yet.
    )
    assert isinstance(smaller, k.Model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert digits.accuracy(smaller, DATA["test"]) > 0.9
    sparsity = report.step.sparsity
    assert set(sparsity) == {"stem", "a", "b", "head"}
    assert 0.1 < sparsity["a"] < 1 and 0.1 < sparsity["b"] < 1
    # By hand: the trunk takes the mean of its two layers; fractions stay.
    ratios = {"stem": (sparsity["stem"] + sparsity["b"]) / 2, "a": sparsity["a"]}
    assert report.step.ratios == pytest.approx(ratios)
    assert smaller.get_layer("a").kernel.shape[-1] == 64 - int(64 * ratios["a"])
    assert smaller.get_layer("b").kernel.shape[-1] == 32 - int(32 * ratios["stem"])
    assert report.after.params == smaller.count_params()
    assert len(report.step.fine_tuning["val_accuracy"]) == 6
    assert "of the kernel is zero" in str(report)
    with pytest.warns(DeprecationWarning, match=r"is now ProxReport\.step\.sparsity"):
        assert report.sparsity is sparsity


def test_a_budget_scales_the_ratios():
    model = digits.network(tf_keras)
    smaller, _ = tfslim.prox_sg(
        model,
        **SPLIT,
        task="classification",
        budget=tfslim.Budget(max_params=model.count_params() * 0.4, divisor=1),
        sparse_epochs=2,
        fine_tune_epochs=1,
    )
    assert 0.3 < smaller.count_params() / model.count_params() <= 0.4
    with pytest.raises(errors.ConfigError, match="needs a limit"):
        tfslim.prox_sg(
            digits.network(tf_keras, 4),
            **SPLIT,
            task="classification",
            budget=tfslim.Budget(pruning_ratio=0.5),
            sparse_epochs=1,
        )


@BOTH
def test_the_zeros_are_exact_in_the_exported_file(k):
    """The float weights of the `.tflite` have as many zeros as Keras' kernels."""
    layers = k.layers
    model = k.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="dense"),
        ]
    )
    optimizer = tfslim.optimizers.ProxSGD(model, 0.1, strength=0.02)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(*DATA["train"], epochs=2, verbose=0)
    expected = {
        name: np.count_nonzero(np.asarray(model.get_layer(name).kernel) == 0.0)
        for name in ("conv", "dense")
    }
    sizes = {"conv": 72, "dense": 8 * 36 * 10}
    assert all(0 < expected[name] < sizes[name] for name in sizes)
    file = tflite.read(tfslim.convert_model(model).tflite)
    found = {
        tensor.size: np.count_nonzero(tensor.data == 0.0)
        for tensor in file.tensors
        if tensor.data is not None and tensor.dtype == "float32"
    }
    for name, size in sizes.items():
        assert found[size] == expected[name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fine_tune_epochs": 0}, "fine_tune_epochs must be at least 1"),
        ({"sparse_learning_rate": -0.1}, "sparse_learning_rate must be above 0"),
        ({"divisor": 0}, "divisor must be at least 1"),
        ({"optimizer": "adamm"}, "Did you mean 'adam'"),
        ({"budget": tfslim.Budget(pruning_ratio=0.5)}, "needs a limit"),
        ({"budget": tfslim.Budget(max_params=3)}, "max_params"),
        ({"budget": tfslim.Budget(max_params=9e3, ignore=["b_con"])}, "b_con"),
    ],
)
def test_wrong_options(options, message, monkeypatch):
    monkeypatch.setattr(tf_keras.Model, "fit", None)  # Known before any training.
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.prox_sg(
            digits.network(tf_keras, 4), **SPLIT, task="classification", **options
        )
