"""Ranges and choices of options: declared in a word, refused in one line."""

from __future__ import annotations

import fnmatch
import functools
import inspect
import math
import numbers
import operator
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from tfslim import errors, registry

P = ParamSpec("P")
R = TypeVar("R")


def number(name: str, value: Any, *, span: str, hint: str = "") -> None:
    """Checks that an option is a number in an interval.

    Args:
        name: of the option, for the message.
        value: what was passed.
        span: the interval, such as "[0, 1)" or "(0, inf)".
        hint: what the number means, for the message.

    Raises:
        ConfigError: it is not.
    """
    low, high = map(float, span[1:-1].split(","))
    above, below = (
        operator.le if bracket in "[]" else operator.lt
        for bracket in (span[0], span[-1])
    )
    if isinstance(value, numbers.Real) and above(low, value) and below(value, high):
        return
    wanted = f"in {span}"
    if math.isinf(high):
        wanted = f"at least {low:g}" if span[0] == "[" else f"above {low:g}"
    raise errors.ConfigError(f"{name} must be {wanted}, got {value!r}. {hint}".strip())


def whole(name: str, value: Any, *, low: int = 1) -> None:
    """Checks that an option is a whole number, `low` or more; raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise errors.ConfigError(f"{name} must be a whole number, got {value!r}.")
    if value < low:
        raise errors.ConfigError(f"{name} must be at least {low}, got {value}.")


def choice(kind: str, value: Any, *, known: Any) -> None:
    """Checks that an option is one of the known names; raises ConfigError."""
    if value not in known:
        raise registry.unknown_name(kind, value, known=filter(None, known))


def matching(
    kind: str, patterns: str | Iterable[str], *, names: Iterable[str]
) -> list[str]:
    """Returns the names that fit one of the patterns, in their order.

    Raises:
        ConfigError: a pattern fits none.
    """
    names, found = list(names), set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise registry.unknown_name(kind, pattern, known=names)
        found |= set(fitting)
    return [name for name in names if name in found]


def renamed(old: str, new: str) -> Any:
    """Returns a property for an attribute's old name, which warns.

    Args:
        old: the name of before.
        new: what to read instead, `a.b` for an attribute of an attribute.
    """

    def get(self: Any) -> Any:
        kind = type(self).__name__
        warnings.warn(
            f"{kind}.{old} is now {kind}.{new}.", DeprecationWarning, stacklevel=2
        )
        return operator.attrgetter(new)(self)

    return property(get)


def renamed_keyword(given: dict[str, Any], old: str, *, new: str) -> None:
    """Moves a keyword's old name to its new one; the user who passed it is warned.

    Args:
        given: keywords, changed in place.
        old: the name of before.
        new: the name of today.
    """
    if old in given:
        # Behind the function that calls this, `seeds.kept` and `by_name` around it.
        warnings.warn(f"{old}= is now {new}=.", DeprecationWarning, stacklevel=5)
        given[new] = given.pop(old)


def by_name(function: Callable[P, R]) -> Callable[P, R]:
    """Takes arguments without their names that want them now; warns, for one release.

    Args:
        function: with parameters that are keywords only, in the order in which they
            could once be passed.
    """
    given = inspect.signature(function).parameters.values()
    count = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in given)
    names = [p.name for p in given if p.kind is p.KEYWORD_ONLY]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        late = dict(zip(names, args[count:], strict=False))
        if not late or late.keys() & kwargs or len(args) - count > len(late):
            return function(*args, **kwargs)
        text = ", ".join(f"{name}=" for name in late)
        warnings.warn(
            f"{function.__name__}: write {text} before the argument.",
            DeprecationWarning,
            stacklevel=2,
        )
        first: Any = args[:count]
        named: Any = late | kwargs
        return function(*first, **named)

    return call
