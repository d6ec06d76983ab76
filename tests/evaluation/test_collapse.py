"""Verification against hand-made outputs: each disease and its opposite."""

import numpy as np
import pytest

from tfslim import errors, evaluation, tasks

CLASSIFICATION = tasks.resolve("classification")


def _healthy(seed=0, samples=64, classes=5):
    return np.random.default_rng(seed).normal(size=(samples, classes))


def test_parity_by_hand():
    reference = np.array([[0.0, 4.0], [2.0, 1.0]])
    other = np.array([[0.0, 4.0], [2.0, 3.0]])
    parity = evaluation.compare([reference], [other], task=CLASSIFICATION)
    assert parity.num_samples == 2
    assert parity.max_abs_error == 2.0
    assert parity.relative_error == 0.5  # 2 of a range of 4.
    assert parity.sqnr_db == pytest.approx(10 * np.log10(21 / 4))
    assert parity.agreement == 0.5


def test_parity_takes_the_worst_output():
    reference = [np.array([[0.0, 100.0]]), np.array([[0.0, 1.0]])]
    other = [np.array([[0.0, 101.0]]), np.array([[0.5, 1.0]])]
    parity = evaluation.compare(reference, other, task=CLASSIFICATION)
    assert parity.max_abs_error == 1.0
    assert parity.relative_error == 0.5


def test_parity_bound():
    reference = _healthy()
    extent = reference.max() - reference.min()
    good = evaluation.compare(
        [reference], [reference + 0.9e-4 * extent], task=CLASSIFICATION
    )
    evaluation.require_parity(good, name="float32")
    bad = evaluation.compare(
        [reference], [reference + 1.1e-4 * extent], task=CLASSIFICATION
    )
    with pytest.raises(errors.VerificationError, match="differs from the Keras model"):
        evaluation.require_parity(bad, name="float32")


def test_parity_sees_a_small_column_beside_a_large_one():
    """Boxes in pixels are right, and scores wrong by 2% of theirs."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(0, [640, 1], (9, 50, 2))
    other = reference + np.array([0, 0.02])
    regression = tasks.resolve("regression")
    parity = evaluation.compare([reference], [other], task=regression)
    assert parity.max_abs_error / 640 < 1e-4 < parity.relative_error
    assert parity.where == "column 1"
    with pytest.raises(errors.VerificationError, match="differs from the Keras"):
        evaluation.require_parity(parity, name="float32")


def _model(noise):
    """Adds in another order for one input than for several, by `noise`."""
    slope = np.float32([1.0, 2.0])

    def predict(x):
        return [x * slope * (1 + noise * (len(x) == 1))]

    return predict


def test_the_bound_follows_what_float32_can_do():
    x = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    exact, steep = (evaluation.noise_floor(_model(noise), x) for noise in (0.0, 5e-5))
    assert exact < 1e-6 < 2e-5 < steep < 5e-5
    reference = _healthy()
    extent = reference.max() - reference.min()
    moved = evaluation.compare(
        [reference], [reference + 2e-4 * extent], task=CLASSIFICATION
    )
    evaluation.require_parity(moved, name="float32", noise=steep)
    with pytest.raises(errors.VerificationError, match="at most 1e-04"):
        evaluation.require_parity(moved, name="float32", noise=exact)
    # What differs from itself by percents computes at random, and proves nothing.
    wrong = evaluation.compare(
        [reference], [reference + 0.03 * extent], task=CLASSIFICATION
    )
    with pytest.raises(errors.VerificationError, match="differs from itself by 2e-01"):
        evaluation.require_parity(wrong, name="float32", noise=0.2)


def test_the_last_bit_of_an_input_shows_what_a_network_makes_of_it():
    steep = evaluation.noise_floor(
        lambda x: [1e4 * x - 1e4], np.float32([[1.0], [1.0002]])
    )
    assert steep > 1e-4
    listed = evaluation.noise_floor(
        lambda x: [x[0] + x[1]], [np.zeros((4, 2)), np.ones((4, 2), int)]
    )
    assert listed < 1e-6


def test_shapes_and_nan_are_errors():
    reference = _healthy()
    with pytest.raises(errors.VerificationError, match="shapes"):
        evaluation.compare([reference], [reference[:, :4]], task=CLASSIFICATION)
    broken = reference.copy()
    broken[3, 2] = np.nan
    with pytest.raises(errors.VerificationError, match="NaN"):
        evaluation.compare([reference], [broken], task=CLASSIFICATION)


def _check(outputs, reference=None, **options):
    reference = _healthy() if reference is None else reference
    evaluation.require_healthy(reference, outputs, name="int8", classes=True, **options)


def test_quantization_noise_is_healthy():
    reference = _healthy()
    _check(np.round(reference * 20) / 20, reference)


def test_model_that_is_itself_constant_is_healthy():
    constant = np.full((64, 5), 0.2)
    _check(constant, constant)


@pytest.mark.parametrize(
    ("spoil", "symptom"),
    [
        (lambda x: np.zeros_like(x), "the same for every input"),
        (lambda x: x + np.eye(5)[0] * 9, "class 0 for every input"),
        (lambda x: np.clip(x, -0.3, 0.3), "saturated"),
        (lambda x: x * np.inf, "NaN or infinity"),
    ],
)
def test_collapsed(spoil, symptom):
    with pytest.raises(errors.VerificationError, match=symptom):
        _check(spoil(_healthy()))


def test_cause_names_the_two_ranges():
    with pytest.raises(errors.VerificationError, match=r"\[0, 1\].*\[0, 255\]"):
        _check(np.zeros((64, 5)), calibrated=(0.0, 1.0), seen=(0.0, 255.0))


def test_every_output_is_looked_at():
    good = _healthy()
    with pytest.raises(errors.VerificationError, match="output 1 collapsed"):
        evaluation.require_healthy(
            [good, good], [good, np.zeros_like(good)], name="int8", classes=True
        )


_FIRST = np.array([9, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("outputs", "targets", "symptom"),
    [
        (np.full((20, 3), 0.3), None, "same for every input"),
        (_healthy(samples=20) + _FIRST, np.arange(20) % 5, "class 0"),
        (
            _healthy(samples=20) + _FIRST,
            np.eye(5)[np.arange(20) % 5],
            "class 0",
        ),
        # All examples are of one class, or nobody knows.
        (_healthy(samples=20) + _FIRST, np.zeros(20), None),
        (_healthy(samples=20) + _FIRST, None, None),
        (_healthy(samples=20), np.arange(20) % 5, None),
        # One sigmoid, one logit.
        (np.linspace(0.1, 0.4, 20)[:, None], np.arange(20) % 2, "class 0"),
        (np.linspace(0.1, 0.9, 20)[:, None], np.arange(20) % 2, None),
        (np.linspace(1, 4, 20)[:, None], np.arange(20)[:, None] % 2, "class 1"),
        (np.linspace(-1, 4, 20)[:, None], np.arange(20) % 2, None),
        (np.full((5, 3), 0.3), None, None),  # Five are too few.
    ],
)
def test_one_answer_of_a_model_alone(outputs, targets, symptom):
    found = evaluation.one_answer([outputs], targets, classes=True)
    assert found is None if symptom is None else symptom in found


def test_one_sample_on_the_border_is_no_collapse():
    """A tenth of nine samples is one, which INT8 may turn over."""
    reference = (
        np.tile(np.float32([[0.9, 0.1]]), (9, 1)) + 0.01 * _healthy(samples=9)[:, :2]
    )
    reference[3], turned = [0.49, 0.51], reference.copy()
    turned[3] = [0.51, 0.49]
    _check(turned, reference)
    targets = np.arange(9) == 3
    assert evaluation.one_answer([turned], targets, classes=True) is None


def test_probabilities_that_are_less_sure_are_no_saturation():
    sure = np.where(np.arange(30) % 3 == 0, 0.999, 0.001)
    reference = np.stack([sure, 1 - sure], axis=1)
    _check(reference.clip(0.06, 0.94), reference)
