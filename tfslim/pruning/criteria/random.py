"""A score without meaning: what every other criterion must beat."""

from __future__ import annotations

import hashlib

import numpy as np

from tfslim.graph import ir
from tfslim.pruning.criteria import base


@base.CRITERIA.register("random")
def random(kernel: ir.Array, *, channel_axis: int, seed: int = 0) -> base.Scores:
    """Scores a channel by a hash of its weights: uniform in [0, 1).

    A hash, not a generator's next number: the same channel gets the same score
    wherever it stands, and two layers of one width are not cut alike.

    Source: the baseline of Mittal et al., "Recovering from Random Pruning", WACV 2018,
    https://arxiv.org/abs/1801.10447.

    Args:
        kernel: float array of any rank, e.g. [height, width, in, out] of a Conv2D.
        channel_axis: axis of `kernel` that counts the channels to score.
        seed: another seed, another order.

    Returns:
        float64 [channels], in [0, 1).
    """
    key = str(seed).encode()
    filters = np.ascontiguousarray(np.moveaxis(kernel, channel_axis, 0))
    digests = [
        hashlib.blake2b(channel.tobytes(), digest_size=8, key=key).digest()
        for channel in filters
    ]
    # The upper 53 bits fill a float64 evenly.
    numbers = np.frombuffer(b"".join(digests), np.dtype("<u8")) >> np.uint64(11)
    return numbers.astype(np.float64) * 2.0**-53
