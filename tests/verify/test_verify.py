"""Verification against hand-made outputs: each disease and its opposite."""

import numpy as np
import pytest

from tfslim import errors, tasks, verify

CLASSIFICATION = tasks.resolve("classification")


def _healthy(seed=0, samples=64, classes=5):
    return np.random.default_rng(seed).normal(size=(samples, classes))


def test_parity_by_hand():
    reference = np.array([[0.0, 4.0], [2.0, 1.0]])
    other = np.array([[0.0, 4.0], [2.0, 3.0]])
    parity = verify.compare([reference], [other], CLASSIFICATION)
    assert parity.num_samples == 2
    assert parity.max_abs_error == 2.0
    assert parity.relative_error == 0.5  # 2 of a range of 4.
    assert parity.sqnr_db == pytest.approx(10 * np.log10(21 / 4))
    assert parity.agreement == 0.5


def test_parity_takes_the_worst_output():
    reference = [np.array([[0.0, 100.0]]), np.array([[0.0, 1.0]])]
    other = [np.array([[0.0, 101.0]]), np.array([[0.5, 1.0]])]
    parity = verify.compare(reference, other, CLASSIFICATION)
    assert parity.max_abs_error == 1.0
    assert parity.relative_error == 0.5


def test_parity_bound():
    reference = _healthy()
    extent = reference.max() - reference.min()
    good = verify.compare([reference], [reference + 0.9e-4 * extent], CLASSIFICATION)
    verify.require_parity(good, name="float32")
    bad = verify.compare([reference], [reference + 1.1e-4 * extent], CLASSIFICATION)
    with pytest.raises(errors.VerificationError, match="differs from the Keras model"):
        verify.require_parity(bad, name="float32")


def test_shapes_and_nan_are_errors():
    reference = _healthy()
    with pytest.raises(errors.VerificationError, match="shapes"):
        verify.compare([reference], [reference[:, :4]], CLASSIFICATION)
    broken = reference.copy()
    broken[3, 2] = np.nan
    with pytest.raises(errors.VerificationError, match="NaN"):
        verify.compare([reference], [broken], CLASSIFICATION)


def _check(outputs, reference=None, **options):
    reference = _healthy() if reference is None else reference
    verify.require_healthy(reference, outputs, name="int8", classes=True, **options)


def test_quantization_noise_is_healthy():
    reference = _healthy()
    _check(np.round(reference * 20) / 20, reference)


def test_model_that_is_itself_constant_is_healthy():
    constant = np.full((64, 5), 0.2)
    _check(constant, constant)


@pytest.mark.parametrize(
    ("sicken", "symptom"),
    [
        (lambda x: np.zeros_like(x), "the same for every input"),
        (lambda x: x + np.eye(5)[0] * 9, "class 0 for every input"),
        (lambda x: np.clip(x, -0.3, 0.3), "saturated"),
        (lambda x: x * np.inf, "NaN or infinity"),
    ],
)
def test_sick(sicken, symptom):
    with pytest.raises(errors.VerificationError, match=symptom):
        _check(sicken(_healthy()))


def test_cause_names_the_two_ranges():
    with pytest.raises(errors.VerificationError, match=r"\[0, 1\].*\[0, 255\]"):
        _check(np.zeros((64, 5)), calibrated=(0.0, 1.0), seen=(0.0, 255.0))
