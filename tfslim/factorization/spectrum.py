"""The singular values of a kernel's unfolding, and the rank they ask for."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tfslim.graph import ir

Matrix: TypeAlias = npt.NDArray[np.float64]

# Shares of the energy below this are float32's rounding of the weights.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrum:
    """The left singular vectors of a matrix and what each is worth.

    Attributes:
        energies: squared singular values, descending, [rows].
        basis: the vectors as columns, orthonormal, [rows, rows].
        columns: the number of the matrix's columns.
    """

    energies: Matrix
    basis: Matrix
    columns: int

    @property
    def size(self) -> int:
        """The number of vectors, with those that are worth nothing."""
        return len(self.energies)

    def rank_for_energy(self, energy: float) -> int:
        """Returns the smallest rank, at least 1, that keeps this share of the energy.

        The energy is the sum of the squared weights; dropping a share of it makes a
        relative error of the square root of that share.
        """
        total = self.energies.sum()
        # Summed from the small end: what is lost is exact where it is tiny.
        lost = np.cumsum(self.energies[::-1])[::-1]
        lost = np.append(lost, 0.0)[1:]
        allowed = (1.0 - energy + _ROUNDING) * total
        return int(np.argmax(lost <= allowed)) + 1

    def leading(self, rank: int) -> Matrix:
        """Returns the first `rank` vectors, [rows, rank]."""
        return self.basis[:, :rank]


def of_rows(matrix: ir.Array) -> Spectrum:
    """Returns the spectrum of a matrix [rows, columns].

    By the eigenvectors of matrix @ matrix.T, in float64: a kernel's unfolding is much
    wider than high, and the full decomposition would cost as much more. Singular
    values below 1e-8 of the largest are noise; nobody asks for them.
    """
    wide = matrix.astype(np.float64)
    values, vectors = np.linalg.eigh(wide @ wide.T)
    energies: Any = np.maximum(values[::-1], 0.0)
    return Spectrum(energies, vectors[:, ::-1], matrix.shape[1])


def unfold(kernel: ir.Array, axis: int) -> ir.Array:
    """Returns the array as a matrix whose rows are the positions on `axis`."""
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
