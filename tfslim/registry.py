"""One table per axis of growth: names to objects, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

from tfslim import errors

T = TypeVar("T")


def unknown_name(
    kind: str, name: object, *, known: Iterable[str]
) -> errors.ConfigError:
    """Builds the error for a name that is in no table, with the nearest known one."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return errors.ConfigError(
        f"Unknown {kind} '{name}'.{hint} Known: {', '.join(known)}."
    )


class Registry(Generic[T]):
    """Maps names to objects of one kind.

    An entry is either the object itself (`register`) or the place where it stands
    (`register_lazy`), so that listing names imports nothing. A registry is written
    at import time only; a name is taken once.
    """

    def __init__(self, kind: str):
        """Creates an empty table; `kind` is the noun used in error messages."""
        self._kind = kind
        self._entries: dict[str, T | str] = {}
        self._lazy: set[str] = set()

    def _add(self, name: str, entry: T | str) -> None:
        if name in self._entries:
            raise ValueError(f"{self._kind} '{name}' is registered twice.")
        self._entries[name] = entry

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that stores the decorated object under `name`."""

        def decorate(entry: T) -> T:
            self._add(name, entry)
            return entry

        return decorate

    def register_lazy(self, name: str, place: str) -> None:
        """Stores `place`, "package.module:attribute", to be imported on first use."""
        self._add(name, place)
        self._lazy.add(name)

    def names(self) -> list[str]:
        """Returns the known names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        """Tells whether `name` is known."""
        return name in self._entries

    def get(self, name: str) -> T:
        """Returns the entry called `name`.

        Raises:
            ConfigError: no entry has that name; the message has the nearest one.
        """
        if name not in self._entries:
            raise unknown_name(self._kind, name, known=self._entries)
        if name in self._lazy:
            module, attribute = cast(str, self._entries[name]).split(":")
            self._entries[name] = getattr(importlib.import_module(module), attribute)
            self._lazy.discard(name)
        return cast(T, self._entries[name])
