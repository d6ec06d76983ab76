"""How many components of a noisy matrix are signal: variational Bayes, closed form.

Source: Nakajima et al., "Global Analytic Solution of Fully-observed Variational
Bayesian Matrix Factorization", JMLR 14 (2013),
https://jmlr.org/papers/v14/nakajima13a.html. As the ranks of a Tucker decomposition:
Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power
Mobile Applications", ICLR 2016, https://arxiv.org/abs/1511.06530.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tfslim.factorization.spectrum import Matrix

# Squared singular values below this share of the largest are rounding, not noise.
_ROUNDING = 1e-14
_GRID = 200


class Estimate(NamedTuple):
    """How many components are signal, and the variance of the noise per entry."""

    rank: int
    noise_variance: float


def vbmf(energies: Matrix, columns: int) -> Estimate:
    """Estimates the rank and the noise of a matrix from its singular values.

    The empirical variational Bayes solution with unknown noise: the variance that
    minimizes the free energy, found by a search on one line, and the singular values
    above the threshold that belongs to it.

    Args:
        energies: squared singular values, descending.
        columns: the longer side of the matrix; `energies` may have more entries than
            the shorter side, zeros then.

    Returns:
        The rank, 0 where all looks like noise, and the noise's variance.
    """
    rows, columns = sorted((len(energies), columns))
    energies = energies[:rows]
    if energies[0] <= 0.0:
        return Estimate(0, 0.0)
    energies = np.maximum(energies, _ROUNDING * energies[0])
    ratio = rows / columns
    limit = _limit(ratio)
    threshold = (1.0 + limit) * (1.0 + ratio / limit)
    low, high = _noise_bounds(energies, columns, threshold=threshold)
    for _ in range(4):  # Each pass narrows the interval a hundredfold.
        grid = np.geomspace(low, high, _GRID)
        scaled = energies / (columns * grid[:, None])
        best = int(
            np.argmin(_free_energy(scaled, ratio, threshold=threshold).sum(axis=1))
        )
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    variance = float(grid[best])
    return Estimate(
        int(np.count_nonzero(energies > columns * variance * threshold)), variance
    )


def _limit(ratio: float) -> float:
    """Solves phi(t) + phi(t / ratio) = 0, phi(z) = log(z + 1) / z - 1/2.

    The solution is the weakest signal, in units of the noise, that is worth keeping;
    phi falls and is zero at 2.5129, so it lies between that times `ratio` and that.
    """

    def phi(z: float) -> float:
        return math.log1p(z) / z - 0.5

    low, high = 2.5 * ratio, 2.6
    for _ in range(60):
        middle = (low + high) / 2.0
        if phi(middle) + phi(middle / ratio) > 0.0:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def _noise_bounds(
    energies: Matrix, columns: int, *, threshold: float
) -> tuple[float, float]:
    """Bounds of the noise's variance: at most all is noise, at least the tail is."""
    rows = len(energies)
    most = math.ceil(rows / (1.0 + rows / columns)) - 1
    tail = energies[most:]
    low = max(tail[0] / (columns * threshold), tail.mean() / columns)
    return float(low), float(energies.mean() / columns)


def _free_energy(scaled: Matrix, ratio: float, *, threshold: float) -> Matrix:
    """The free energy of each component, up to a constant, as signal or as noise."""
    energy = scaled - np.log(scaled)
    signal = scaled > threshold
    x = scaled[signal]
    shift = x - (1.0 + ratio)
    tau = 0.5 * (shift + np.sqrt(shift**2 - 4.0 * ratio))
    energy[signal] += np.log1p(tau) + ratio * np.log1p(tau / ratio) - tau
    return energy
