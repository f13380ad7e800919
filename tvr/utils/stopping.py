"""Stopping a training from outside: SIGTERM, SIGUSR1, and Ctrl-C once or twice."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
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
    """Notes that this process was asked to stop, for somebody to ask between steps.

    A thread takes note, so that a second Ctrl-C also ends a process that waits for another one
    inside a library, where no handler would run.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], None] | int | None] = {}
        self._signals, self._handler = socket.socketpair()

    def __enter__(self) -> StopRequests:
        self._handler.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(
            self._handler.fileno(), warn_on_full_buffer=False
        )
        Thread(target=self._listen, daemon=True).start()
        for number in SIGNALS:
            # a shell that starts a program in the background keeps its terminal's Ctrl-C from it
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _leave_to_the_thread)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._handler.close()  # which ends the thread

    def agreed(self) -> int | None:
        """The exit code if any process of the training was asked to stop; asked by all of them."""
        found = largest(-1 if self.code is None else self.code)
        return None if found < 0 else found

    def heed(self, saved: str) -> None:
        """Ask as `agreed` does where there is nothing to save; `saved` says what will go on.

        Raises:
            Stopped: a process was asked to.
        """
        code = self.agreed()
        if code is not None:
            raise Stopped(f"stopped {saved}", code)

    def _listen(self) -> None:
        with self._signals:
            while numbers := self._signals.recv(16):
                for number in numbers:
                    if number in SIGNALS:
                        self._note(number)

    def _note(self, number: int) -> None:
        if number == signal.SIGINT and self.code == INTERRUPTED:
            delete_parts()
            say(f"stopped at once; from the last saved state {STOPPED}")
            os._exit(INTERRUPTED)
        self.code = INTERRUPTED if number == signal.SIGINT else 0
        say("stopping after this step; Ctrl-C again: at once")


def _leave_to_the_thread(number: int, frame: FrameType | None) -> None:
    """A handler, without which the signal would end the process."""


def _speak_for_itself() -> None:
    """In a process that was forked: its signals are no requests to the one it came from."""
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_speak_for_itself)


def say(text: str) -> None:
    """A line on the terminal, whatever else is being written."""
    with suppress(OSError):
        if speaks_for_machine():
            # there may be a progress bar
            os.write(2, f"\n{text}\n".encode() if os.isatty(2) else f"{text}\n".encode())
