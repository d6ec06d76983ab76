"""Fields of options: each declares its default, its range or choices and its help once.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Options(fields.Checked):
        epochs: int = fields.field(10, "passes over the training data", least=1)

A dataclass that is made of them checks its values when it is constructed. A value that
is not set is None, which every field takes whose default it is.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

from tfslim import errors, registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a field takes.

    Attributes:
        help: what the field is, for whoever sets it.
        least, most: bounds that belong to the range.
        above, below: bounds that do not.
        choices: the values there are; none: any.
        kind: the type of its values, where a default does not show it.
    """

    help: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    kind: type | None = None

    def __str__(self) -> str:
        """Says the range in words, as in "must be {...}"."""
        low, high = self._bounds()
        if high is None or high == math.inf:
            return f"above {low:g}" if self.least is None else f"at least {low:g}"
        first = "(" if self.least is None else "["
        last = ")" if self.most is None else "]"
        return f"in {first}{low:g}, {high:g}{last}"

    def _bounds(self) -> tuple[Any, Any]:
        low = self.above if self.least is None else self.least
        return low, self.below if self.most is None else self.most

    def holds(self, value: Any) -> bool:
        """Tells whether a number is within; NaN never is."""
        return bool(
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def check(self, name: str, value: Any) -> None:
        """Raises ConfigError unless the field `name` takes a value.

        None is not looked at here: whether it is a value, the default says.
        """
        if value is None:
            return
        if self.choices:
            if value not in self.choices:
                raise registry.unknown_name(name, value, known=self.choices)
            return
        if self.kind in (int, float):
            number = numbers.Integral if self.kind is int else numbers.Real
            if isinstance(value, bool) or not isinstance(value, number):
                kind = "a whole number" if self.kind is int else "a number"
                raise errors.ConfigError(f"{name} must be {kind}, got {value!r}.")
        if self._bounds() != (None, None) and not self.holds(value):
            raise errors.ConfigError(f"{name} must be {self}, got {value}.")


def field(default: Any, help: str = "", **limits: Any) -> Any:
    """Declares a field of a dataclass.

    Args:
        default: its value where none is given; a dict is copied for each.
        help: what it is, for whoever sets it.
        **limits: of `Limits`. The kind of a number is that of the default; where that
            is None, give it.
    """
    if type(default) in (int, float):
        limits.setdefault("kind", type(default))
    metadata = {"limits": Limits(help=help, **limits)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def limits(declared: dataclasses.Field[Any]) -> Limits:
    """Returns what a field takes; of one that was not declared here, anything."""
    found: Limits = declared.metadata.get("limits", Limits())
    return found


class Checked:
    """A dataclass whose fields are checked when it is made."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that its field does not take."""
        for declared in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, declared.name)
            if value is None and declared.default is not None:
                raise errors.ConfigError(f"{declared.name} must be set, got None.")
            limits(declared).check(declared.name, value)


def walk(section: Any, prefix: str = "") -> Mapping[str, dataclasses.Field[Any]]:
    """Returns the fields of a dataclass and of those within it, by dotted names."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for declared in dataclasses.fields(section):
        name, value = f"{prefix}{declared.name}", getattr(section, declared.name)
        if dataclasses.is_dataclass(value):
            found |= walk(value, f"{name}.")
        else:
            found[name] = declared
    return found
