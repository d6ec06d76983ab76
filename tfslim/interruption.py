"""Ctrl-C and SIGTERM end a command as an error does: half-written files are removed."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

# Time for native code to return from where it dropped a signal.
_SOON_S = 0.02


class Interruption:
    """The signals that came while a command runs.

    Each becomes a KeyboardInterrupt. Where Python or native code drops that instead of
    passing it on, the signal is sent once more, and the traceback they would print is
    left out.

    Attributes:
        number: of the signal that came; None while none has.
    """

    def __init__(self) -> None:
        """Takes the hooks that are set now; nothing is changed yet."""
        self.number: int | None = None
        self._hooks = sys.unraisablehook, sys.excepthook
        self._is_dropping = False

    def interrupt(self, number: int, frame: object) -> None:
        """Handles a signal."""
        del frame
        if self._is_dropping:  # Raised in a hook it would be dropped again.
            self._send_again(number)
            return
        # The end that one began is interrupted by Ctrl-C alone.
        if self.number is None or number == signal.SIGINT:
            self.number = number
            raise KeyboardInterrupt

    def unraisable(self, dropped: Any) -> None:
        """Takes what was raised in a finalizer; a `sys.unraisablehook`."""
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            self._drop()
        else:
            self._hooks[0](dropped)

    def printed(
        self,
        kind: type[BaseException],
        error: BaseException,
        trace: types.TracebackType | None,
    ) -> None:
        """Takes what native code prints instead of raising it; a `sys.excepthook`."""
        if isinstance(error, KeyboardInterrupt):
            self._drop()
        elif self.number is None:  # Else the signal set it off.
            self._hooks[1](kind, error, trace)

    def _drop(self) -> None:
        self._is_dropping = True
        try:
            number, self.number = self.number or signal.SIGINT, None
            self._send_again(number)
        finally:
            self._is_dropping = False

    def _send_again(self, number: int) -> None:
        # A Thread's start waits for it, and a signal may come meanwhile.
        _thread.start_new_thread(_send_soon, (number,))


def _send_soon(number: int) -> None:
    time.sleep(_SOON_S)
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def handled() -> Iterator[Interruption]:
    """Handles the signals of a command while the block runs in the main thread."""
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, state.interrupt) for number in numbers}
    hooks = sys.unraisablehook, sys.excepthook
    sys.unraisablehook, sys.excepthook = state.unraisable, state.printed
    try:
        yield state
    finally:
        sys.unraisablehook, sys.excepthook = hooks
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
