"""Spectra against numpy's singular value decomposition, ranks by hand."""

import numpy as np
import pytest

from tfslim.factorization import spectrum


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_spectrum_is_the_singular_value_decomposition(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    found = spectrum.of_rows(matrix)
    values = np.linalg.svd(matrix, compute_uv=False)
    expected = np.zeros(shape[0])
    expected[: len(values)] = values**2
    np.testing.assert_allclose(found.energies, expected, atol=1e-12)
    np.testing.assert_allclose(
        found.basis.T @ found.basis, np.eye(shape[0]), atol=1e-12
    )
    # Each vector's share of the matrix is its energy.
    shares = ((found.basis.T @ matrix) ** 2).sum(axis=1)
    np.testing.assert_allclose(shares, found.energies, atol=1e-12)
    assert (found.size, found.columns) == shape


def test_unfold_by_hand():
    kernel = np.arange(12).reshape(1, 2, 3, 2)
    np.testing.assert_array_equal(
        spectrum.unfold(kernel, -2), [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    )


@pytest.mark.parametrize(
    ("energy", "rank"),
    [(0.0, 1), (0.5, 1), (0.6, 1), (0.61, 2), (0.9, 2), (0.95, 3), (1.0, 3)],
)
def test_rank_for_energy_by_hand(energy, rank):
    # Energies 6, 3, 1 and one that is nothing but rounding.
    found = spectrum.Spectrum(np.array([6.0, 3.0, 1.0, 1e-13]), np.eye(4), 4)
    assert found.rank_for_energy(energy) == rank


def test_a_rounded_low_rank_matrix_keeps_its_rank():
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 60))).astype(np.float32)
    assert spectrum.of_rows(matrix).rank_for_energy(1.0) == 3
