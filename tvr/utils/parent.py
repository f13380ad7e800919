"""Ending with the process that started this one. Decoders need it, so it imports little."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h: which signal a process gets when its parent ends


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the system send this process a signal when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
