"""One rule per op: how it carries channels. Importing this fills `base.RULES`."""

from tfslim.pruning.rules import (
    elementwise,
    linear,
    merge,
    normalization,
    position,
    shape,
)

__all__ = [
    "elementwise",
    "linear",
    "merge",
    "normalization",
    "position",
    "shape",
]
