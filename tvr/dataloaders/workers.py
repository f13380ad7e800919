"""The processes that read data: how they are set up, and how their errors reach the user.

A user's error inside such a process would come out as PyTorch's report of a traceback. So a batch
may be a `UserError`, and `checked` raises it in the main process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import cv2

from tvr.utils.errors import LocalError, UserError
from tvr.utils.parent import end_with_parent

Batch = TypeVar("Batch")
ANNOUNCED_WITHIN = 5  # seconds


class WorkerDied(LocalError):
    """A process that reads data has died, of something that it could not report."""


def checked(loader: Iterable[Batch | UserError]) -> Iterator[Batch]:
    """The loader's batches.

    Raises:
        LocalError: a batch is an error.
        WorkerDied: a process of the loader is dead.
    """
    try:
        for batch in loader:
            if isinstance(batch, UserError):
                raise LocalError(str(batch))
            yield batch
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        # it died in the middle of handing over a batch; what it met itself comes as "Caught"
        if str(error).startswith("Caught "):
            raise
        raise _death(_announced(error)) from error


def _announced(sign: Exception) -> Exception:
    """PyTorch's error for the death that `sign` is a sign of, where it comes in time.

    The system closes the connections of a process before it tells of its death. PyTorch's error
    would then meet whatever the main process does next, such as saving what it has.
    """
    try:
        time.sleep(ANNOUNCED_WITHIN)
    except RuntimeError as error:
        if not _is_death(error):
            raise
        return error
    return sign


@contextmanager
def deaths_reported() -> Iterator[None]:
    """Within it, PyTorch's error for the death of a loader's process becomes `WorkerDied`.

    A signal brings that error, so any line of the main process can raise it.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_death(error):
            raise
        raise _death(error) from error


def _is_death(error: RuntimeError) -> bool:
    return "DataLoader worker (pid" in str(error)


def _death(error: Exception) -> WorkerDied:
    reason = str(error).strip().rstrip(".") or "its connection ended"
    return WorkerDied(
        f"a process that decodes videos died ({reason}): out of memory, or by a video that the "
        "decoder cannot bear. Try fewer --workers, or --video_decoder opencv."
    )


def init_worker(worker: int) -> None:
    """Set up a process that reads data: it takes one core, and ends with the main process."""
    # PyTorch limits its own threads already
    cv2.setNumThreads(0)
    # Ctrl-C in a terminal or the end of a job's time reaches every process; the main one decides
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()
    # without this it would wait for ever for a killed process to fetch its batches
    end_with_parent()

    def report(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # the thread that hands batches over, where the main process stops in the middle of one
        if not isinstance(error, (ConnectionError, EOFError)):
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = report


def _end_when_told(main: int) -> None:
    """End this process at a SIGTERM of the main one's, which waits for it when it ends itself."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
