"""Signals that ask a process to end: an exception, or a note that a loop heeds.

By default Python dies of SIGTERM on the spot, temporary files and all, and shows a
traceback for Ctrl-C. Here either passes through the code like any other exception, so
that context managers clean up; a loop that has something to save postpones it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# Ctrl-C, what schedulers and `kill` send, and a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# No Exception: whoever handles errors must let it pass.
class Interrupted(KeyboardInterrupt):
    """A signal has asked to end.

    Attributes:
      number: of the signal.
      message: one line for the user.
    """

    def __init__(self, number: int, message: str = ''):
        self.number = number
        self.message = message or f'stopped by {signal.Signals(number).name}'
        super().__init__(self.message)

    @property
    def status(self) -> int:
        """The exit status that shells expect."""
        return 128 + self.number


class Request:
    """Whether a signal has asked to end.

    Attributes:
      number: of the signal; none as long as none has come.
    """

    number: int | None = None

    @property
    def name(self) -> str:
        """Name of the signal."""
        return '' if self.number is None else signal.Signals(self.number).name


def install() -> None:
    """Makes these signals exceptions: the first one, that is; a second ends at once."""
    for number in SIGNALS:
        # What nohup, or a shell for jobs in the background, has told to be ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


@contextlib.contextmanager
def postponed() -> Iterator[Request]:
    """Within it a first signal is only noted; a second ends the process at once.

    In a thread that is not the main one no signal ever arrives, nor is it noted.
    """
    request = Request()

    def note(number: int, frame: FrameType | None) -> None:
        request.number = number
        _next_one_kills()

    # Python lets the main thread alone set handlers.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, note)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _next_one_kills()
    raise Interrupted(number)


def _next_one_kills() -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit_at_once)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    # No clean-up: whoever asks twice means now. The next run removes what is left.
    os._exit(128 + number)
