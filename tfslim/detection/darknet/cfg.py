"""The text of a Darknet `.cfg`: sections of `key=value` lines."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tfslim import errors


@dataclasses.dataclass(frozen=True)
class Section:
    """One `[kind]` of a `.cfg` and its options.

    Attributes:
        kind: what stands in the brackets.
        options: values as written, without spaces at their ends.
        line: where it begins, from 1; 0 where it was not read from a file.
    """

    kind: str
    options: Mapping[str, str]
    line: int = 0

    def __str__(self) -> str:
        """The section as messages call it."""
        return f"[{self.kind}] in line {self.line}" if self.line else f"[{self.kind}]"

    def number(self, key: str, default: int, *, least: int = 0) -> int:
        """Returns a whole number.

        Raises:
            GraphError: what stands there is none, or less than `least`.
        """
        [value] = self.numbers(key, (default,), count=1)
        if value != int(value) or value < least:
            raise errors.GraphError(
                f"{self}: {key} must be a whole number of at least {least}, got "
                f"{self.options.get(key, default)!r}."
            )
        return int(value)

    def numbers(
        self, key: str, default: Sequence[float], *, count: int | None = None
    ) -> tuple[float, ...]:
        """Returns the numbers of a list, `count` of them if that is given."""
        if key not in self.options:
            return tuple(default)
        text = self.options[key]
        try:
            values = tuple(float(part) for part in text.rstrip(", ").split(","))
        except ValueError:
            values = ()
        if not all(map(math.isfinite, values)) or count not in (None, len(values)):
            values = ()
        if not values:
            wanted = "numbers" if count is None else f"{count} finite number(s)"
            raise errors.GraphError(
                f"{self}: {key} must be {wanted}, separated by commas, got {text!r}."
            )
        return values

    def check_options(self, known: Collection[str]) -> None:
        """Refuses options that would change what is computed.

        Raises:
            GraphError: an option is not among `known`.
        """
        for key, value in self.options.items():
            if key not in known:
                raise errors.GraphError(
                    f"{self} has {key}={value}, which tfslim does not know. Known: "
                    f"{', '.join(sorted(known))}."
                )


def parse(text: str) -> tuple[Section, ...]:
    """Reads the sections of a `.cfg`; of a repeated key, the first counts.

    Raises:
        GraphError: a line is neither a section, an option nor a comment.
    """
    sections: list[Section] = []
    options: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.partition("#")[0].strip()
        if not line or line.startswith(";"):
            continue
        if line.startswith("[") and line.endswith("]"):
            options = {}
            sections.append(Section(line[1:-1].strip(), options, number))
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not sections or not equals or not key or not value:
            shown = line if len(line) < 60 else f"{line[:60]}..."
            raise errors.GraphError(
                f"Line {number} of the .cfg is '{shown}'; expected [section] or "
                "key=value. Is the file cut off, or no .cfg?"
            )
        options.setdefault(key, value)
    return tuple(sections)


def dump(sections: Sequence[Section]) -> str:
    """Returns the text of a `.cfg`."""
    blocks = []
    for section in sections:
        lines = [f"{key}={value}" for key, value in section.options.items()]
        blocks.append("\n".join([f"[{section.kind}]", *lines, ""]))
    return "\n".join(blocks)


def join(values: Sequence[Any]) -> str:
    """Returns numbers as a list of a `.cfg`: `10,13,16,30`."""
    return ",".join(f"{value:g}" for value in values)
