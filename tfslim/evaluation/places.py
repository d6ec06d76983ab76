"""What an output's axes hold beside its columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# A picture has so many values, and is so wide.
_PICTURE, _PICTURE_WIDTH = 256, 24
# A place that moves less than this share of what places do on average is quiet, and so
# is one whose largest move is hardly a step of INT8.
_MOVING, _LEAST_MOVE = 0.25, 1.0 / 16.0
# Fewer values are not looked at for themselves.
_FEW = 8


def is_picture(shape: Sequence[int], inputs: Sequence[Sequence[int | None]]) -> bool:
    """Whether an output is of an input's size, as an autoencoder's: of one unit.

    Its background may hardly move, flat or in rows, and nobody would miss that.

    Args:
        shape: of the output, with the batch.
        inputs: shapes of the model's inputs, with the batch.
    """
    size = math.prod(shape[1:])
    is_wide = size >= _PICTURE and shape[-1] >= _PICTURE_WIDTH
    return is_wide and any(
        math.prod(s or 0 for s in other[1:]) == size for other in inputs
    )


def still_places(truth: np.ndarray, found: np.ndarray, *, axis: int) -> int | None:
    """Finds an axis with places that move in `truth`, and are still in `found`.

    One anchor of several, or a class in rows, is no column: it is looked at whole.

    Args:
        truth: array [samples, ...].
        found: of the same shape.
        axis: of the columns, which are looked at for themselves.

    Returns:
        The axis; None if there is none.
    """
    moves = np.ptp(truth, axis=0)
    still = (found == found[:1]).all(axis=0)
    if not still.any():
        return None
    for own in range(1, truth.ndim):
        others = tuple(a for a in range(truth.ndim - 1) if a != own - 1)
        places = moves.size // max(truth.shape[own], 1)
        if own == axis or places < _FEW:
            continue
        is_moving = moves.mean(axis=others) >= _MOVING * moves.mean()
        is_moving &= moves.max(axis=others) > _LEAST_MOVE * moves.max()
        if (is_moving & still.all(axis=others)).any():
            return own
    return None
