"""Errors by column: hand-made outputs, and the INT8 scale computed here."""

import numpy as np
import pytest

from tfslim import evaluation


def int8(values):
    """Rounds as one INT8 scale for the whole output does."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    step = (high - low) / 255
    return (np.round(values / step) * step).astype(np.float32)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def test_the_worst_column_decides():
    truth = random(100, 3)
    error = np.float32([0.01, 0.2, 0.05]) * random(100, 3, seed=1)
    found = evaluation.Columns(truth).errors(truth + error)
    wanted = 10 * np.log10(
        np.var(np.float64(truth), axis=0, ddof=1) / np.mean(np.square(error), axis=0)
    )
    np.testing.assert_allclose(found.by_column, wanted, atol=1e-3)
    assert (found.column, found.sqnr_db) == (1, pytest.approx(wanted[1], abs=1e-3))
    extent = np.ptp(truth, axis=0)
    largest = np.abs(error).max(axis=0) / extent
    assert found.relative_error == pytest.approx(largest.max(), rel=1e-4)


@pytest.mark.parametrize("axis", [1, 2])
def test_scores_that_are_gone_beside_boxes_in_pixels(axis):
    """Boxes and scores as the files of YOLOv5 (last axis) and YOLOv8 hold them."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 640, (30, 50, 4))
    scores = rng.uniform(0, 1, (30, 50, 20)) ** 8
    truth = np.concatenate([boxes, scores], -1).astype(np.float32)
    truth = truth if axis == 2 else np.swapaxes(truth, 1, 2)
    columns = evaluation.Columns(truth)
    assert columns.axis == axis
    found = columns.errors(int8(truth))
    assert found.dead == tuple(range(4, 24)) and found.sqnr_db < 1
    # One figure over all says that nothing is wrong.
    noise = np.square(truth - int8(truth), dtype=np.float64).sum()
    assert 10 * np.log10(np.square(truth, dtype=np.float64).sum() / noise) > 45


def test_a_regression_of_unlike_units():
    truth = random(60, 2) * np.float32([500.0, 0.3])
    found = evaluation.Columns(truth).errors(int8(truth))
    assert found.dead == (1,)
    right = truth * np.float32([1.0, 0.999])
    assert evaluation.Columns(truth).errors(right).sqnr_db == pytest.approx(60, abs=0.1)


def test_a_column_that_moves_by_place_only_is_dead():
    """The grid of the anchors is in the file, what the network says is not."""
    grid = np.arange(0, 640, 10, dtype=np.float32)[:, None]
    truth = grid + 5 * random(20, 64, 2)
    lost = truth.copy()
    lost[..., 1] = grid[:, 0]
    assert evaluation.Columns(truth).errors(lost).dead == (1,)
    assert evaluation.Columns(truth).errors(lost).sqnr_db == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("samples", [32, 400])
def test_rare_classes_are_no_collapse(samples):
    """Of 1000 classes most are never seen, and INT8 has 256 levels."""
    logits = 2 * random(samples, 1000)
    logits[np.arange(samples), np.arange(samples) * 7 % 1000] += 9
    truth = softmax(logits)
    noisy = softmax(logits + 0.3 * random(samples, 1000, seed=1))
    file = np.round(noisy * 256) / np.float32(256)
    gone = (file == file[:1]).all(0) & (np.ptp(truth, 0) > 0)
    assert samples > 32 or gone.sum() > 100
    found = evaluation.Columns(truth).errors(file)
    assert found.dead == () and found.sqnr_db > 5
    assert evaluation.symptom_of(truth, file, classes=True) is None
    assert evaluation.symptom_of(truth, file, classes=False) is None


@pytest.mark.parametrize("seed", range(3))
def test_quiet_features_are_no_collapse(seed):
    """A feature vector after a ReLU: spreads over four orders of magnitude."""
    rng = np.random.default_rng(seed)
    size, bias = np.exp(1.5 * rng.normal(size=(2, 1280)))
    truth = np.maximum(rng.normal(size=(64, 1280)) * size - bias, 0)
    truth = truth.astype(np.float32)
    file = int8(truth)
    assert ((file == file[:1]).all(0) & (np.ptp(truth, 0) > 0)).sum() > 10
    assert evaluation.symptom_of(truth, file, classes=False) is None


def test_maps_of_classes_and_of_depth_are_healthy():
    classes = softmax(4 * random(12, 16, 16, 21))
    assert (
        evaluation.symptom_of(classes, np.round(classes * 256) / 256, classes=False)
        is None
    )
    depth = np.cumsum(random(12, 24, 32), axis=2)  # No channels: the last axis is x.
    assert evaluation.symptom_of(depth, int8(depth), classes=False) is None
    assert evaluation.Columns(depth).axis == 2


def test_a_class_that_occurs_once_says_nothing_alone():
    truth = np.full((40, 5), 0.01, np.float32)
    truth[:, 0] = np.linspace(0, 1, 40)
    truth[7, 1] = 0.9
    found = truth.copy()
    found[7, 1] = 0.2  # The file is unsure where the float model is not.
    assert evaluation.Columns(truth).errors(found).dead == ()
    found[:, 1] = 0.01
    assert evaluation.Columns(truth).errors(found).dead == ()
    found = truth.copy()
    found[:, 0] = 0.5
    assert evaluation.Columns(truth).errors(found).dead == (0,)


def test_a_few_odd_samples_do_not_decide_the_typical_figure():
    truth = random(60, 6)
    error = 0.05 * random(60, 6, seed=1)
    usual = evaluation.Columns(truth).errors(truth + error)
    error[:4] *= 300
    odd = evaluation.Columns(truth).errors(truth + error)
    assert odd.sqnr_db < usual.sqnr_db - 30
    assert odd.typical_db > usual.typical_db - 5
    # But half of them may not be given up for the others.
    error = np.where(np.arange(60) % 2, 1e-4, 1.0)[:, None] * random(60, 6)
    assert evaluation.Columns(truth).errors(truth + error).typical_db < 10
    # Chance among many alike columns does not count, a column that is worse does.
    many, noise = random(64, 500), random(64, 500, seed=1)
    noise *= 0.1
    alike = evaluation.Columns(many, alike=True).errors(many + noise).typical_db
    assert alike == pytest.approx(20, abs=1.0)
    noise[:, 77] *= 10
    assert evaluation.Columns(many).errors(many + noise).typical_db < alike - 10


def test_nan_that_came_about_is_no_agreement():
    truth = np.repeat(np.float32([[1.0, 2.0, -np.inf]]), 9, axis=0)
    truth[:, 0] = np.arange(9)
    columns = evaluation.Columns(truth)
    assert columns.errors(truth).sqnr_db == evaluation.MOST_DB
    for broken in ([1.0, np.nan, -np.inf], [1.0, 2.0, 0.0], [np.inf, 2.0, -np.inf]):
        found = truth.copy()
        found[3] = broken
        assert columns.errors(found).sqnr_db == -evaluation.MOST_DB


def test_few_values_are_one_column():
    truth, found = np.float32([[1.0, 2.0]]), np.float32([[1.0, 2.2]])
    row = evaluation.Columns(truth).errors(found)
    wanted = pytest.approx(10 * np.log10(5 / 0.04), abs=1e-4)
    assert (row.sqnr_db, row.typical_db, row.against_zeros_db) == (wanted,) * 3


def test_zeros_have_no_decibels():
    """The mean counts where the question is whether zeros were as good."""
    truth = 100 + random(50, 1)
    zeros = evaluation.Columns(truth).errors(np.zeros_like(truth))
    assert zeros.against_zeros_db == pytest.approx(0, abs=0.01)
    still = evaluation.Columns(truth).errors(np.full_like(truth, 100))
    assert still.sqnr_db == pytest.approx(0, abs=0.2)
    assert still.against_zeros_db > 35


def test_the_number_of_blocks_makes_no_difference(monkeypatch):
    truth, error = random(33, 7, 5), 0.1 * random(33, 7, 5, seed=1)
    whole = evaluation.Columns(truth).errors(truth + error)
    monkeypatch.setattr("tfslim.evaluation.columns._BLOCK", 40)
    parts = evaluation.Columns(truth).errors(truth + error)
    np.testing.assert_allclose(parts.by_column, whole.by_column)
    assert parts.typical_db == pytest.approx(whole.typical_db)


@pytest.mark.parametrize("background", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("shape", [(40, 784), (40, 28, 28), (40, 28, 28, 1)])
def test_the_background_of_a_picture_is_no_collapse(shape, background):
    """What an autoencoder gives for pixels that are always black."""
    truth = background * random(40, 28, 28)
    truth[:, 6:22, 6:22] = random(40, 16, 16, seed=1)
    truth = truth.reshape(shape)
    for inputs in ([(None, 28, 28, 1)], [(1, 784)]):
        evaluation.require_healthy(
            truth, int8(truth), name="int8", classes=False, inputs=inputs
        )
    assert not evaluation.is_picture((40, 85), [(None, 85)])
    assert not evaluation.is_picture((40, 100, 9), [(None, 100, 9)])
    assert not evaluation.is_picture((40, 784), [(None, None, None, 1)])


def test_channels_first_maps_of_boxes_and_scores():
    rng = np.random.default_rng(0)
    parts = rng.uniform(0, 640, (9, 4, 12, 12)), rng.uniform(0, 1, (9, 3, 12, 12))
    truth = np.concatenate(parts, 1).astype(np.float32)
    columns = evaluation.Columns(truth)
    assert (columns.axis, columns.errors(int8(truth)).dead) == (1, (4, 5, 6))
    right = np.concatenate([int8(part) for part in parts], 1)
    assert evaluation.symptom_of(truth, right, classes=False) is None


@pytest.mark.parametrize("shape", [(10, 3, 6, 6, 9), (10, 108, 9), (10, 21, 12, 12)])
def test_a_place_that_is_still(shape):
    """One anchor of three, or one class of channels-first maps."""
    truth = random(*shape)
    assert evaluation.symptom_of(truth, int8(truth), classes=False) is None
    lost = int8(truth)
    lost[:, 1] = truth[:, 1].mean(axis=0)
    symptom = evaluation.symptom_of(truth, lost, classes=False)
    assert symptom.startswith("places of axis 1 move in the float model")


def test_a_sparse_map_is_still_at_most_places():
    truth = 0.001 * np.abs(random(10, 500, 2))
    truth[3, 5] = 1.0
    assert (int8(truth) == 0).all(axis=(0, 2)).sum() > 10
    assert evaluation.symptom_of(truth, int8(truth), classes=False) is None


def test_one_saturated_column_beside_others():
    truth = np.random.default_rng(0).uniform(0, 100, (60, 3)).astype(np.float32)
    lost = truth.copy()
    lost[:, 2] = lost[:, 2].clip(max=40)
    symptom = evaluation.symptom_of(truth, lost, classes=False)
    assert symptom.startswith("column 2 of axis 1 is saturated")
    lost[:, 2] = truth[:, 2].clip(5, 95)
    assert evaluation.symptom_of(truth, lost, classes=False) is None


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_a_column_that_is_inverted(mean):
    truth = mean + 0.2 * random(50, 2)
    lost = truth.copy()
    lost[:, 1] = 2 * mean - truth[:, 1]
    assert evaluation.Columns(truth).errors(lost).misled == (1,)
    assert evaluation.Columns(truth).errors(int8(truth)).misled == ()
    # A tenth of the spread beside a large mean is what INT8 has to give.
    coarse = 40 + 0.2 * random(50, 2)
    assert evaluation.Columns(coarse).errors(coarse[::-1]).misled == ()


@pytest.mark.parametrize("shape", [(3, 0), (9, 0), (0, 4), (10, 0, 4)])
def test_an_output_without_values(shape):
    empty = np.zeros(shape, np.float32)
    assert evaluation.Columns(empty).errors(empty).sqnr_db == evaluation.MOST_DB
    assert evaluation.symptom_of(empty, empty, classes=False) is None


@pytest.mark.parametrize("dtype", [bool, np.int32, np.uint8])
@pytest.mark.parametrize("shape", [(3,), (20,), (20, 4)])
def test_outputs_that_are_no_floats(shape, dtype):
    values = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    assert evaluation.Columns(values).errors(values).sqnr_db == evaluation.MOST_DB


def test_values_that_hardly_differ_are_held_against_their_size():
    """An untrained softmax: 0.1 everywhere, and one float32 step is all its range."""
    step = np.spacing(np.float32(0.1))
    truth = np.full((32, 10), 0.1, np.float32)
    truth[::2, 3] += step
    found = np.full((32, 10), 0.1, np.float32)
    error = evaluation.Columns(truth, alike=True).errors(found).relative_error
    assert error < 1e-5
