"""Ctrl-C: one line, exit code 130, and nothing left behind; and stopping with the launcher."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from tvr.utils.distributed import speaks_for_machine
from tvr.utils.parent import end_with_parent


def end_at_interrupt() -> None:
    """From now on Ctrl-C ends this process, with those that read data for it, and at once.

    A KeyboardInterrupt would not always: it is lost while processes are started, becomes another
    error in the middle of a checkpoint, and may leave a lock taken that the loader then waits for.
    """
    # a shell that starts a program in the background keeps its terminal's Ctrl-C from it
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    program = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        # a process that is being started has this handler too, for a moment
        if os.getpid() == program:
            delete_parts()
            # either may be closed, or in the middle of being written
            with suppress(OSError, RuntimeError):
                if speaks_for_machine():
                    # on a terminal there may be a progress bar
                    os.write(2, b"\nstopped\n" if os.isatty(2) else b"stopped\n")
                sys.stdout.flush()
        os._exit(130)

    signal.signal(signal.SIGINT, end)


def end_with_launcher() -> None:
    """Have a process of torchrun's stop as if asked to when torchrun is no more.

    It is in a session of its own, so that nothing else would reach it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGTERM)


def delete_parts() -> None:
    """Delete the files that this process is writing under a temporary name, `*.PID.part`."""
    for descriptor in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            file = descriptor.readlink()
            if file.name.endswith(f".{os.getpid()}.part"):
                file.unlink()
