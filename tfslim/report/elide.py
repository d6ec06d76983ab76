"""Names that are longer than their place, shortened so that they stay apart."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence

# What ends a word; a number is one.
_BETWEEN = re.compile(r"[^\w.]|_|\.(?!\d)")


def elided(names: Iterable[str], width: int) -> dict[str, str]:
    """Shortens names to `width`, all of one table together.

    The words that most of the long ones begin with go first; then as much of the middle
    as must, at the place where most of them stay apart.

    Args:
        names: of one column.
        width: in characters, at least 5.

    Returns:
        Each name -> what to show.
    """
    shown = {name: name for name in names}
    long = [name for name in shown if len(name) > width]
    start = _common(long)
    rests = {
        name: f"…{name[len(start) :]}" if start and name.startswith(start) else name
        for name in long
    }

    def cut(head: int) -> dict[str, str]:
        return {
            name: rest
            if len(rest) <= width
            else f"{rest[:head]}…{rest[len(rest) - (width - head - 1) :]}"
            for name, rest in rests.items()
        }

    # The middle of the range first: of equals the first is taken.
    heads = sorted(range(2, width - 2), key=lambda head: abs(head - width // 2))
    return shown | max(map(cut, heads), key=lambda found: len({*found.values()}))


def _common(names: Sequence[str]) -> str:
    """Returns the words that more than half of the names begin with, "" for one."""
    starts = collections.Counter(
        name[: found.end()] for name in names for found in _BETWEEN.finditer(name)
    )
    shared = [start for start, count in starts.items() if 2 * count > len(names) > 1]
    return max(shared, key=len, default="")
