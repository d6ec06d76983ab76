"""A training ends where nothing can come of it; of equal epochs the last one counts."""

import numpy as np
import pytest
import tf_keras

import tfslim
from tfslim import errors
from tfslim.training.callbacks import BestWeights

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)


def _model():
    tf_keras.utils.set_random_seed(0)
    return tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(1)])


def test_data_that_is_no_number_is_told_at_the_first_step():
    x = X.copy()
    x[:, 1] = np.nan
    with pytest.raises(
        errors.TrainingError, match=r"step 1 of epoch 1, .*Look for inputs, targets"
    ) as caught:
        tfslim.fit(_model(), (x, Y), task="regression", epochs=2)
    assert "\n" not in str(caught.value)


def test_a_weight_that_no_loss_has_seen():
    """The one step of the epoch leaves the float range; its loss was fine."""
    with pytest.raises(errors.TrainingError, match=r"kernel:0' is not finite"):
        tfslim.fit(
            _model(),
            (X, Y * 1e3),
            task="regression",
            epochs=1,
            batch_size=64,
            optimizer=tf_keras.optimizers.SGD(3e38),
        )


def test_methods_that_train_stop_as_well():
    x = X.copy()
    x[40:] = np.inf
    options = {"task": "regression", "epochs": 1, "schedule": "constant"}
    for method in (
        lambda: tfslim.distill(_model(), _model(), data=(x, Y), **options),
        lambda: tfslim.sparsify(_model(), (x, Y), method="magnitude", **options),
    ):
        with pytest.raises(errors.TrainingError, match="diverged"):
            method()


@pytest.mark.parametrize(
    ("accuracies", "losses", "best"),
    [
        ([0.5, 0.5, 0.5], [1.0, 1.0, 1.0], 2),
        ([0.5, 0.5, 0.5], [1.0, 0.9, 1.1], 1),
        ([0.5, 0.6, 0.5], [1.0, 2.0, 0.1], 1),
        ([0.5, np.nan, 0.5], [1.0, 0.1, 1.0], 2),
    ],
)
def test_best_epoch_by_hand(accuracies, losses, best):
    watched = BestWeights("val_accuracy", higher_is_better=True, patience=2)
    watched.set_model(_model())
    for epoch, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True)):
        watched.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
    assert watched.best_epoch == best
    # Two epochs in a row without progress, though an equal one is kept.
    assert watched.is_exhausted == (best == 2)
    again = BestWeights("val_accuracy", higher_is_better=True, patience=2)
    again.set_state(watched.get_state())
    assert again.is_exhausted == watched.is_exhausted
