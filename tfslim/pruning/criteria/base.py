"""What a criterion is: a function from the arrays of a layer to one score per channel.

A criterion names the arrays it needs as its parameters, so that whoever has the data
and the gradients can ask (`needed_arrays`) and bring no more than that. Its defaulted
parameters are options. A user's own function of this form works like a built-in one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tfslim import errors, registry
from tfslim.graph import ir

Scores: TypeAlias = npt.NDArray[np.float64]
# Takes some of ARRAYS by name and `channel_axis`, the axis that counts the channels in
# each of them; returns float64 [channels], larger is more important.
Criterion: TypeAlias = Callable[..., Scores]

# The arrays a criterion may ask for by naming a parameter so.
ARRAYS: Mapping[str, str] = {
    "kernel": "a weight with an axis for the channels, of any rank",
    "gradient": "the loss's gradient by that kernel, on one batch",
    "hessian": "the diagonal of the loss's Hessian by that kernel, on one batch",
    "gamma": "the scale [channels] of the normalization the channels pass",
    "activations": "the values [batch, ..., channels] after the activation function",
    "activation_gradients": "the sum of losses' gradient by those values",
}
# What needs samples: score every batch on its own and average the scores.
DATA_ARRAYS = frozenset(ARRAYS) - {"kernel", "gamma"}

CRITERIA: registry.Registry[Criterion] = registry.Registry("importance criterion")


def resolve(criterion: str | Criterion, **options: Any) -> Criterion:
    """Returns a criterion by its name, or a user's own, with its options set.

    Raises:
        ConfigError: no criterion has that name, or it has no such option.
    """
    function = CRITERIA.get(criterion) if isinstance(criterion, str) else criterion
    if not callable(function):
        raise errors.ConfigError(
            f"A criterion is a name or a function, got {criterion!r}. "
            f"Known names: {', '.join(CRITERIA.names())}."
        )
    known = [name for name, value in _parameters(function) if value is not _REQUIRED]
    for name in options:
        if name not in known:
            raise errors.ConfigError(
                f"Criterion '{_name(function)}' has no option '{name}'. "
                f"It has: {', '.join(known) or 'none'}."
            )
    return functools.partial(function, **options) if options else function


def needed_arrays(criterion: Criterion) -> frozenset[str]:
    """Returns the names, out of `ARRAYS`, of what a criterion is computed from.

    Raises:
        ConfigError: the function asks for something that nobody can bring.
    """
    needs = {name for name, value in _parameters(criterion) if value is _REQUIRED}
    unknown = sorted(needs - set(ARRAYS))
    if unknown or not needs:
        raise errors.ConfigError(
            f"Criterion '{_name(criterion)}' asks for "
            f"{', '.join(unknown) or 'no array'}. Its parameters without a default "
            f"must be out of: {', '.join(ARRAYS)}; then, by name, channel_axis."
        )
    return frozenset(needs)


def score(
    criterion: Criterion, arrays: Mapping[str, ir.Array], *, channel_axis: int
) -> Scores:
    """Applies a criterion to one member of a channel group, and checks the answer.

    Args:
        criterion: one of `CRITERIA`, or a user's own.
        arrays: at least `needed_arrays(criterion)`, by name.
        channel_axis: the axis of each of them that counts the channels.

    Returns:
        float64 [channels], larger is more important.

    Raises:
        ConfigError: an array is missing, or what came back is not one finite number
            per channel.
    """
    needs = sorted(needed_arrays(criterion))
    missing = [name for name in needs if name not in arrays]
    if missing:
        raise errors.ConfigError(
            f"Criterion '{_name(criterion)}' needs "
            + ", ".join(f"'{name}' ({ARRAYS[name]})" for name in missing)
            + "."
        )
    channels = arrays[needs[0]].shape[channel_axis]
    scores = np.asarray(
        criterion(**{name: arrays[name] for name in needs}, channel_axis=channel_axis),
        np.float64,
    )
    if scores.shape != (channels,) or not np.isfinite(scores).all():
        raise errors.ConfigError(
            f"Criterion '{_name(criterion)}' must return {channels} finite numbers, "
            f"one per channel; it returned shape {list(scores.shape)} with "
            f"{np.count_nonzero(~np.isfinite(scores))} that are not finite."
        )
    return scores


def sum_per_channel(values: ir.Array, channel_axis: int) -> Scores:
    """Sums an array over all axes but one; float64, exact enough to compare."""
    others = tuple(np.delete(np.arange(values.ndim), channel_axis))
    return values.sum(axis=others, dtype=np.float64)


_REQUIRED = inspect.Parameter.empty


@functools.lru_cache(maxsize=64)  # Asked once per layer; inspecting takes 0.1 ms.
def _parameters(criterion: Criterion) -> tuple[tuple[str, Any], ...]:
    parameters = inspect.signature(criterion).parameters
    if "channel_axis" not in parameters:
        raise errors.ConfigError(
            f"Criterion '{_name(criterion)}' takes no channel_axis. A criterion is a "
            "function (kernel, *, channel_axis) -> one score per channel."
        )
    return tuple((n, p.default) for n, p in parameters.items() if n != "channel_axis")


def _name(criterion: Criterion) -> str:
    if isinstance(criterion, functools.partial):
        return _name(criterion.func)
    return getattr(criterion, "__name__", type(criterion).__name__)
