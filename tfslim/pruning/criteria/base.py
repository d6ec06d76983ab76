"""What a criterion is: it says how important each channel of one layer is.

A criterion is a function that returns float64 [channels], larger is more important.
The names of its positional parameters say what it needs to see; there are four kinds:

* `(kernel, *, channel_axis)`: the kernel of a layer that makes the channels;
* `(kernel, gradient, *, channel_axis)`: the same and the loss's gradient for it, of
  the same shape;
* `(gamma)`: the scale of a batch normalization behind the layer, [channels];
* `(activations)`: what the layer gave on data, float [samples, channels], or what the
  caller gathered of it.

A user's own function of one of these signatures serves as well as a registered one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from tfslim import errors
from tfslim.graph import ir
from tfslim.registry import Registry


class KernelCriterion(Protocol):
    """Scores channels by the weights that make them."""

    def __call__(self, kernel: ir.Array, *, channel_axis: int) -> ir.Array:
        """Returns float64 [channels]; `channel_axis` counts the channels."""


class GradientCriterion(Protocol):
    """Scores channels by their weights and the loss's gradient for them."""

    def __call__(
        self, kernel: ir.Array, gradient: ir.Array, *, channel_axis: int
    ) -> ir.Array:
        """Returns float64 [channels]; `channel_axis` counts the channels."""


class ScaleCriterion(Protocol):
    """Scores channels by the scale of their normalization."""

    def __call__(self, gamma: ir.Array) -> ir.Array:
        """Returns float64 [channels]."""


class ActivationCriterion(Protocol):
    """Scores channels by what they gave on data."""

    def __call__(self, activations: ir.Array) -> ir.Array:
        """Returns float64 [channels]."""


Criterion: TypeAlias = (
    KernelCriterion | GradientCriterion | ScaleCriterion | ActivationCriterion
)
CRITERIA: Registry[Criterion] = Registry("importance criterion")

_KINDS = (("kernel",), ("kernel", "gradient"), ("gamma",), ("activations",))


def find(criterion: str | Criterion) -> Criterion:
    """Returns the criterion of a name; a function is returned as it is."""
    return CRITERIA.get(criterion) if isinstance(criterion, str) else criterion


def needs(criterion: Callable[..., Any]) -> tuple[str, ...]:
    """Returns what a criterion needs to see: the names of its positional parameters.

    Raises:
        ConfigError: its parameters are none of the four kinds.
    """
    names = tuple(
        name
        for name, parameter in inspect.signature(criterion).parameters.items()
        if parameter.kind == parameter.POSITIONAL_OR_KEYWORD
        and parameter.default is parameter.empty
    )
    if names not in _KINDS:
        known = "; ".join(f"({', '.join(kind)})" for kind in _KINDS)
        raise errors.ConfigError(
            f"A criterion takes one of {known}, got ({', '.join(names)})."
        )
    return names
