"""VBMF against the iterative algorithm it solves in closed form, and against theory."""

import numpy as np
import pytest

from tfslim.factorization import vbmf as vbmf_module
from tfslim.factorization.vbmf import vbmf


def noisy(rows, columns, signals, noise=1.0, seed=0):
    """A matrix of noise and of rank-one parts with these singular values."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(rows, len(signals))))[0]
    right = np.linalg.qr(rng.normal(size=(columns, len(signals))))[0]
    return (left * signals) @ right.T + rng.normal(scale=noise, size=(rows, columns))


def energies(matrix):
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def iterative_vbmf(matrix, rank, rounds=600):
    """Empirical variational Bayes by coordinate descent, from the model's definition.

    matrix = B A' + noise; rows of A and B have Gaussian priors with variances per
    component, which are estimated, as is the noise. The posterior means and
    covariances of A and B are updated in turn (Lim et al., 2007). Returns the number
    of components that survive and the noise's variance.
    """
    rows, columns = matrix.shape
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    a = right[:rank].T * np.sqrt(values[:rank])
    b = left[:, :rank] * np.sqrt(values[:rank])
    variance = matrix.var() / 2
    prior_a = prior_b = np.ones(rank)
    cov_a = cov_b = np.zeros((rank, rank))
    for _ in range(rounds):
        cov_a = np.linalg.inv(
            (b.T @ b + rows * cov_b) / variance + np.diag(1 / prior_a)
        )
        a = matrix.T @ b @ cov_a / variance
        cov_b = np.linalg.inv(
            (a.T @ a + columns * cov_a) / variance + np.diag(1 / prior_b)
        )
        b = matrix @ a @ cov_b / variance
        prior_a = np.maximum((a**2).sum(axis=0) / columns + np.diag(cov_a), 1e-12)
        prior_b = np.maximum((b**2).sum(axis=0) / rows + np.diag(cov_b), 1e-12)
        spread_a, spread_b = a.T @ a + columns * cov_a, b.T @ b + rows * cov_b
        variance = (
            (matrix**2).sum()
            - 2 * np.sum(matrix * (b @ a.T))
            + np.sum(spread_a * spread_b)
        ) / matrix.size
    strength = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.count_nonzero(strength > 1e-3 * values[0]), variance


@pytest.mark.parametrize(
    ("rows", "columns", "signals"),
    [(30, 50, [40.0, 30.0, 22.0]), (40, 40, [60.0, 25.0]), (20, 120, [35.0])],
)
def test_agrees_with_the_iterative_algorithm(rows, columns, signals):
    matrix = noisy(rows, columns, signals)
    rank, variance = iterative_vbmf(matrix, rank=rows // 2)
    found = vbmf(energies(matrix), columns)
    assert found.rank == rank == len(signals)
    assert found.noise_variance == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.1])
def test_the_weakest_signal_that_is_kept(ratio):
    # Asymptotically a signal is kept if its squared singular value is above tau times
    # the noise's share (Nakajima et al. 2013, section 5); tau = 2.5129 at ratio 1 and
    # about 2.5129 * sqrt(ratio) otherwise.
    limit = vbmf_module._limit(ratio)
    assert limit == pytest.approx(
        2.5129 * np.sqrt(ratio), rel=1e-4 if ratio == 1 else 0.05
    )
    columns = 600
    rows = int(ratio * columns)
    for factor, rank in [(0.7, 0), (1.4, 1)]:
        signal = np.sqrt(factor * limit * columns)
        matrix = noisy(rows, columns, [signal])
        assert vbmf(energies(matrix), columns).rank == rank


@pytest.mark.parametrize("noise", [1e-4, 1.0, 1e3])
def test_noise_has_no_components_and_its_own_variance(noise):
    found = vbmf(energies(noisy(100, 150, [], noise)), 150)
    assert found.rank == 0
    assert found.noise_variance == pytest.approx(noise**2, rel=0.03)


def test_the_side_does_not_matter():
    matrix = noisy(30, 80, [50.0, 40.0])
    wide = np.linalg.eigvalsh(matrix @ matrix.T)[::-1]
    tall = np.linalg.eigvalsh(matrix.T @ matrix)[::-1]  # With 50 zeros at the end.
    assert vbmf(np.maximum(wide, 0), 80).rank == 2
    assert vbmf(np.maximum(tall, 0), 30) == pytest.approx(vbmf(wide, 80), rel=1e-6)


def test_without_noise_the_rank_is_the_rank():
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(40, 4)) @ rng.normal(size=(4, 60))).astype(np.float32)
    assert vbmf(energies(matrix.astype(np.float64)), 60).rank == 4
    assert vbmf(np.zeros(5), 9) == (0, 0.0)
