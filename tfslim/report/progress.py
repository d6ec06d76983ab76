"""What the job is doing: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console

OnStep = Callable[[str], None]


@contextlib.contextmanager
def steps() -> Iterator[OnStep]:
    """Yields a function that announces a step; both kinds write to stderr.

    On a terminal the last step shows a spinner; elsewhere every step is one line
    with the seconds since the start.
    """
    start = time.monotonic()
    if not sys.stderr.isatty():

        def plain(text: str) -> None:
            print(f"[{time.monotonic() - start:6.1f} s] {text}", file=sys.stderr)  # noqa: T201

        yield plain
        return
    console = Console(stderr=True)
    with console.status("starting") as status:

        def moving(text: str) -> None:
            console.print(f"[dim]{time.monotonic() - start:6.1f} s[/] {text}")
            status.update(text)

        yield moving
