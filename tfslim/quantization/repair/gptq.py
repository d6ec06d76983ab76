"""The arithmetic of GPTQ: integers for rows of weights, given what they multiply.

With inputs x and errors d of a row of weights, the squared error of the output is
d' H d, H = E[x x']. With H = V V', V upper triangular, that is |V' d|^2, whose i-th
part reads the errors up to i alone: each weight in turn is rounded to what makes its
part least, given those before. That is GPTQ without the inverse of H, which costs three
times a Cholesky factor and needs float64 (Chen et al., "The geometry of LLM
quantization: GPTQ as Babai's nearest plane algorithm", 2025,
https://arxiv.org/abs/2507.18553).
Source: Frantar et al., "GPTQ: accurate post-training quantization for generative
pre-trained transformers", ICLR 2023, https://arxiv.org/abs/2210.17323.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 128
_DAMPING = 0.01
# Of the largest weight; only where there are few levels.
_SHRINKS = np.linspace(1.0, 0.4, 25)


def gptq(
    weights: np.ndarray, scale: np.ndarray, *, matrix: np.ndarray, most: int
) -> np.ndarray:
    """Rounds rows of weights so that (w - scale q)' H (w - scale q) is small.

    Zeros stay zeros: pruning made them, and files shrink by them.

    Args:
        weights: float32 array [groups, rows, width].
        scale: of each row, [groups, rows, 1].
        matrix: H of each group, [groups, width, width].
        most: integers lie in [-most, most].

    Returns:
        The integers q as float32, [groups, rows, width].
    """
    diagonal = np.einsum("gii->gi", matrix)
    # The inputs that matter most come first, as long as many can make up for them.
    order = np.argsort(-diagonal, axis=1, kind="stable")
    left = np.take_along_axis(weights, order[:, None], axis=2)
    is_zero = left == 0.0
    factor = _factor(matrix, order)
    integers = np.empty_like(left)
    errors = np.empty_like(left)
    width = left.shape[2]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        own = factor[:, start:end, start:end]
        # What the errors so far come to, in units of each column to come.
        carried = errors[:, :, :start] @ factor[:, :start, start:end]
        for i in range(start, end):
            place = i - start
            column = left[:, :, i, None]
            missing = carried[:, :, place, None] / own[:, place, place, None, None]
            rounded = np.clip(np.rint((column + missing) / scale), -most, most)
            rounded[is_zero[:, :, i]] = 0.0
            integers[:, :, i] = rounded[..., 0]
            error = column - rounded * scale
            errors[:, :, i] = error[..., 0]
            carried[:, :, place + 1 :] += error * own[:, None, place, place + 1 :]
    inverse = np.argsort(order, axis=1, kind="stable")
    return np.take_along_axis(integers, inverse[:, None], axis=2)


def _factor(matrix: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the upper triangular V with V V' = H, damped, in order."""
    # With both axes reversed, the lower Cholesky factor is V reversed.
    back = order[:, ::-1]
    damped = np.take_along_axis(matrix, back[:, :, None], axis=1)
    damped = np.take_along_axis(damped, back[:, None], axis=2)
    diagonal = np.einsum("gii->gi", damped)  # A view: what is added goes into it.
    size = diagonal.mean(axis=1, keepdims=True)
    diagonal += np.where(size > 0, np.float32(_DAMPING) * size, np.float32(1.0))
    try:
        lower = np.linalg.cholesky(damped)
    except np.linalg.LinAlgError:  # float32 has too few digits for this one.
        lower = np.linalg.cholesky(damped.astype(np.float64)).astype(np.float32)
    return lower[:, ::-1, ::-1]


def best_scale(weights: np.ndarray, matrix: np.ndarray, *, most: int) -> np.ndarray:
    """Returns the scale of each row that nearest rounding loses least with.

    Arguments and result as in `gptq`; inputs count by their own H alone.
    """
    importance = np.einsum("gii->gi", matrix)[:, None]
    scale = np.abs(weights).max(axis=2, keepdims=True) / np.float32(most)
    scale[scale == 0.0] = 1.0
    best, least = scale.copy(), np.full(scale.shape, np.inf, np.float32)
    for shrink in _SHRINKS:
        tried = scale * np.float32(shrink)
        rounded = np.clip(np.rint(weights / tried), -most, most) * tried
        error = (np.square(weights - rounded) * importance).sum(axis=2, keepdims=True)
        better = error < least
        best[better], least[better] = tried[better], error[better]
    return best


def output_error(difference: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns d' H d of each row [groups, rows]."""
    return ((difference @ matrix) * difference).sum(axis=2)
