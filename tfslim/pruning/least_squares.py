"""Kernels from least squares, and which inputs of one can go at the least error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tfslim.graph import ir

# So many rows at once in float64.
_CHUNK = 4096


def fit(
    rows: ir.Array,
    targets: ir.Array,
    *,
    start: ir.Array,
    ridge: float,
    has_intercept: bool,
) -> tuple[ir.Array, ir.Array]:
    """Returns the affine map nearest to the targets, regularized towards a start.

    The intercept is not regularized.

    Args:
        rows: [rows, unknowns].
        targets: [rows, outputs].
        start: float64 [unknowns, outputs].
        ridge: weight of the squared distance to `start`, in units of the mean squared
            unknown, times the number of rows.
        has_intercept: whether there is a constant besides the unknowns.

    Returns:
        float64 [unknowns, outputs], and the intercept [outputs].
    """
    middle, level = np.zeros(rows.shape[1]), np.zeros(targets.shape[1])
    if has_intercept:
        middle, level = rows.mean(0, np.float64), targets.mean(0, np.float64)
    gram = np.zeros((rows.shape[1],) * 2)
    cross = np.zeros(start.shape)
    for first in range(0, len(rows), _CHUNK):
        some = rows[first : first + _CHUNK] - middle
        rest = targets[first : first + _CHUNK] - level - some @ start
        gram += some.T @ some
        cross += some.T @ rest
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + 1e-12
    kernel = start + np.linalg.solve(gram, cross)
    return kernel, level - middle @ kernel


def eliminate(
    systems: Sequence[tuple[ir.Array, ir.Array, Sequence[ir.Array]]],
) -> Iterator[tuple[int, float]]:
    """Removes blocks of unknowns one by one, each time the one that is missed least.

    After every removal the rest is re-fitted, so that a block which others can stand
    for goes first. The error added by one is `trace(W_b' inv(H_b) W_b)` with the
    re-fitted kernel `W` and `H = inv(gram)`: the optimal brain surgeon for blocks.
    Source: Meng et al., "OSSCAR: One-Shot Structured Pruning in Vision and Language
    Models with Combinatorial Optimization", ICML 2024,
    https://arxiv.org/abs/2403.12983, section 3; Hassibi & Stork, NIPS 1992.

    Args:
        systems: for each layer that reads the blocks its Gram matrix, float64
            [unknowns, unknowns], positive definite; its kernel, float64 [unknowns,
            outputs]; and the unknowns of each block. The errors are added up.

    Yields:
        The number of a block, and the squared error that its removal adds.
    """
    states = [
        (np.linalg.inv(gram), kernel.copy(), np.stack(blocks))
        for gram, kernel, blocks in systems
    ]
    alive = list(range(len(systems[0][2])))
    while alive:
        costs = np.sum(
            [_costs(w, k, blocks=blocks[alive]) for w, k, blocks in states], axis=0
        )
        place = int(costs.argmin())
        number = alive.pop(place)
        yield number, float(costs[place])
        for inverse, kernel, blocks in states:
            gone = blocks[number]
            column = inverse[:, gone].copy()
            corner = inverse[np.ix_(gone, gone)]
            kernel -= column @ np.linalg.solve(corner, kernel[gone])
            inverse -= column @ np.linalg.solve(corner, inverse[gone])


def _costs(inverse: ir.Array, kernel: ir.Array, *, blocks: ir.Array) -> ir.Array:
    corners = inverse[blocks[:, :, None], blocks[:, None, :]]
    solved = np.linalg.solve(corners, kernel[blocks])
    return np.einsum("bio,bio->b", kernel[blocks], solved)
