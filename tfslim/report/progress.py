"""What the job is doing: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from rich import progress
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape as literal
from rich.spinner import Spinner

from tfslim import escape, quiet

OnStep = Callable[[str], None]
_CURRENT: contextvars.ContextVar[OnStep] = contextvars.ContextVar("steps")
_LOGGER = logging.getLogger("tfslim")


def current() -> OnStep:
    """Returns what announces steps here: that of a command, else Python's logging.

    A program sees them with `logging.getLogger("tfslim").setLevel("INFO")` and a
    handler.
    """
    return _CURRENT.get(_log)


def _log(text: str) -> None:
    _LOGGER.info("%s", text)


T = TypeVar("T")


class Steps:
    """Announces steps, one plain line each, with the seconds since the start."""

    def __init__(self) -> None:
        """Starts the clock."""
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def __call__(self, text: str) -> None:
        """Announces a step."""
        line = f"[{self.seconds:6.1f} s] {escape.terminal(text)}"
        print(line, file=sys.stderr)  # noqa: T201

    def track(self, items: Iterable[T], label: str) -> Iterable[T]:
        """Returns `items`; on a terminal, a bar moves while they are passed over.

        Args:
            items: may be passed over several times.
            label: what they are, e.g. "samples".
        """
        return items


class _Silent(Steps):
    """Announces nothing."""

    def __call__(self, text: str) -> None:
        pass


class _Moving(Steps):
    """The last step beside a spinner, and under it a bar for what is tracked."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console
        self._spinner = Spinner("dots", "starting")
        self._bars = progress.Progress(
            progress.TextColumn("  {task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self.picture = Group(self._spinner, self._bars)

    def __call__(self, text: str) -> None:
        shown = literal(escape.terminal(text))
        self._console.print(f"[dim]{self.seconds:6.1f} s[/] {shown}")
        self._spinner.update(text=shown)

    def track(self, items: Iterable[T], label: str) -> Iterable[T]:
        return _Tracked(items, label, bars=self._bars)


class _Tracked(Generic[T]):
    """Passes items on and moves a bar, as often as it is asked to."""

    def __init__(self, items: Iterable[T], label: str, *, bars: progress.Progress):
        self._items, self._label, self._bars = items, label, bars

    def __iter__(self) -> Iterator[T]:
        sized: Any = self._items
        total = len(sized) if hasattr(sized, "__len__") else None
        bar = self._bars.add_task(self._label, total=total)
        try:
            for item in self._items:
                yield item
                self._bars.advance(bar)
        finally:
            self._bars.remove_task(bar)


@contextlib.contextmanager
def steps() -> Iterator[Steps]:
    """Yields what announces steps, and makes it `current`; all goes to stderr."""
    with _announcer() as found:
        token = _CURRENT.set(found)
        try:
            yield found
        finally:
            _CURRENT.reset(token)


@contextlib.contextmanager
def _announcer() -> Iterator[Steps]:
    if quiet.is_silent():
        yield _Silent()
        return
    if not sys.stderr.isatty():
        yield Steps()
        return
    console = Console(stderr=True)
    moving = _Moving(console)
    with Live(moving.picture, console=console, transient=True):
        yield moving
