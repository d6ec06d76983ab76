"""The whole of network slimming: sparse training, cut, fine-tuning, in passes."""

import keras
import numpy as np
import pytest
import tf_keras

import tfslim
from tests.training import digits
from tfslim import errors

DATA = digits.load()
SPLIT = {"train": DATA["train"], "validation": DATA["validation"]}
STILL = {
    "strength": 0.0,
    "sparse_learning_rate": 1e-9,
    "sparse_epochs": 1,
    "fine_tune_epochs": 1,
}


@pytest.mark.parametrize(
    "k",
    [
        pytest.param(tf_keras, marks=pytest.mark.slow, id="tf_keras"),
        pytest.param(keras, id="keras"),
    ],
)
def test_it_learns_shrinks_and_forgets_nothing(k):
    model = digits.network(k)
    before = model.get_weights()
    smaller, report = tfslim.slim_network(
        model,
        **SPLIT,
        task="classification",
        budget=tfslim.Budget(pruning_ratio=0.6, scope="global", divisor=4),
        passes=2,
        sparse_epochs=4,
        fine_tune_epochs=2,
        batch_size=50,
    )
    assert isinstance(smaller, k.Model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert digits.accuracy(smaller, DATA["test"]) > 0.9
    widths = {name: smaller.get_layer(name).kernel.shape[-1] for name in "ab"}
    widths["stem"] = smaller.get_layer("stem").kernel.shape[-1]
    assert widths["stem"] == widths["b"]
    # 40% of 96 channels and up to 3 more a group.
    assert 39 <= widths["a"] + widths["b"] <= 38.4 + 2 * 3
    assert report.after.params == smaller.count_params()
    assert report.before.params == model.count_params()
    first, last = report.steps
    assert [len(p.sparse) for p in report.steps] == [4, 4]
    assert len(last.fine_tuning["val_accuracy"]) == 2
    # The first of two cuts to 40% takes 37%: their scales go to zero, the others stay.
    counts = {name: h["counts"] for name, h in first.histograms.items()}
    assert sum(counts["before"]) == sum(counts["sparse"]) == 128
    assert counts["before"][20] == 128  # All scales start at 1.
    assert 0.25 * 128 < sum(counts["sparse"][:4]) < 0.37 * 128
    assert sum(counts["sparse"][10:]) > 0.6 * 128
    assert sum(counts["after"]) < 128
    text = str(report)
    assert "step 2:" in text and "scales sparse" in text and "MACs" in text


def test_the_smallest_scales_of_the_whole_network_go():
    model = digits.network(tf_keras)
    rng = np.random.default_rng(1)
    scales = {
        n: rng.uniform(0.1, 1, w) for n, w in (("stem", 32), ("a", 64), ("b", 32))
    }
    for name, values in scales.items():
        model.get_layer(f"{name}_bn").gamma.assign(
            values * rng.choice([-1, 1], len(values))
        )
    smaller, report = tfslim.slim_network(
        model,
        **SPLIT,
        task="classification",
        budget=tfslim.Budget(pruning_ratio=0.5, scope="global", divisor=1),
        **STILL,
    )
    # By hand: two groups, the trunk by the mean of both its normalizations.
    trunk = (scales["stem"] + scales["b"]) / 2
    limit = np.sort(np.concatenate([trunk, scales["a"]]))[48]
    keep = report.steps[0].cut.keep
    np.testing.assert_array_equal(keep["stem"], trunk >= limit)
    np.testing.assert_array_equal(keep["a"], scales["a"] >= limit)
    kernel = smaller.get_layer("a").kernel
    assert kernel.shape[-2:] == (keep["stem"].sum(), keep["a"].sum())


@pytest.mark.slow
def test_a_longer_training_penalizes_less():
    """Steps times mean rate times strength is a fixed share of the mean scale."""
    model = digits.network(tf_keras)
    strengths = []
    for epochs in (1, 2):
        _, report = tfslim.slim_network(
            model,
            **SPLIT,
            task="classification",
            pruning_ratio=0.5,
            sparse_epochs=epochs,
            fine_tune_epochs=1,
            sparse_learning_rate=0.01,
            schedule="constant",
            batch_size=100,
        )
        strengths.append(report.steps[0].sparse[0]["strength"])
    assert strengths[0] == pytest.approx(2 * strengths[1], rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either pruning_ratio"),
        ({"pruning_ratio": 0.5, "passes": 0}, "passes must be at least 1"),
        ({"pruning_ratio": 0.5, "layers": "bm*"}, "a_bn"),
        ({"pruning_ratio": 0.5, "epoch": 3}, "epochs"),
        ({"pruning_ratio": 0.5, "schedule": "linnear"}, "linear"),
        (
            {"pruning_ratio": 0.5, "fine_tune_epochs": 0},
            "fine_tune_epochs must be",
        ),
        (
            {"pruning_ratio": 0.5, "sparse_epochs": 0},
            "sparse_epochs must be at",
        ),
        ({"pruning_ratio": 0.5, "sparse_learning_rate": 0}, "sparse_learning_rate"),
        ({"pruning_ratio": 0.5, "fold": "exakt"}, "Did you mean 'exact'"),
        ({"pruning_ratio": 0.5, "optimizer": "adamm"}, "Did you mean 'adam'"),
    ],
)
def test_wrong_options(options, message, monkeypatch):
    monkeypatch.setattr(tf_keras.Model, "fit", None)  # Known before any training.
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.slim_network(
            digits.network(tf_keras, 4), **SPLIT, task="classification", **options
        )
