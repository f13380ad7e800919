"""Stopping a training from outside: SIGTERM, SIGUSR1, and Ctrl-C once or twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tvr.utils.distributed import largest, speaks_for_machine
from tvr.utils.interrupt import delete_parts

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
INTERRUPTED = 130  # as a shell calls a program that Ctrl-C has ended


STOPPED = "--resume auto goes on"  # how the message of every stopped training ends


class Stopped(Exception):
    """A training was asked to stop, and its state is saved; `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class StopRequests:
    """Notes that this process was asked to stop, for somebody to ask after each step.

    Inside `at_once` there is nothing to save, and a request ends the process there and then.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self._program = os.getpid()
        self._saved: str | None = None
        self._before: dict[int, Callable[[int, FrameType | None], None] | int | None] = {}

    def __enter__(self) -> StopRequests:
        for number in SIGNALS:
            # a shell that starts a program in the background keeps its terminal's Ctrl-C from it
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> int | None:
        """The exit code if any process of the training was asked to stop; asked by all of them."""
        found = largest(-1 if self.code is None else self.code)
        return None if found < 0 else found

    @contextmanager
    def at_once(self, saved: str) -> Iterator[None]:
        """Where a request ends the process at once; `saved` says what will go on from where."""
        self._saved = saved
        if self.code is not None:
            self._end()
        try:
            yield
        finally:
            self._saved = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        # a process that is being started has this handler too, for a moment
        if os.getpid() != self._program:
            return
        again = number == signal.SIGINT and self.code == INTERRUPTED
        self.code = INTERRUPTED if number == signal.SIGINT else 0
        if again:
            self._saved = f"at once; from the last saved state {STOPPED}"
        if self._saved is not None:
            self._end()
        say("stopping after this step; Ctrl-C again: at once")

    def _end(self) -> None:
        delete_parts()
        say(f"stopped {self._saved}")
        os._exit(self.code)


def say(text: str) -> None:
    """A line on the terminal that a signal's handler may write at any moment."""
    with suppress(OSError):
        if speaks_for_machine():
            # there may be a progress bar
            os.write(2, f"\n{text}\n".encode() if os.isatty(2) else f"{text}\n".encode())
