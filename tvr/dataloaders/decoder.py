"""A decoder in a process of its own, the program: `decoding.py` starts it and talks to it.

    python -m tvr.dataloaders.decoder FRAMES_FD PARENT MEMORY

It reads a request a line and answers with a line, JSON both. Frames do not go through the pipe but
into the file FRAMES_FD, which lies in memory. It uses at most MEMORY bytes and ends with PARENT.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tvr.dataloaders.frames import read_with
from tvr.dataloaders.reading import DecoderLost, NotPlayed, Request, UnreadableVideo
from tvr.utils.errors import UserError
from tvr.utils.parent import end_with_parent

KINDS = {kind.__name__: kind for kind in (UnreadableVideo, NotPlayed, DecoderLost)}
READY = b"ready\n"
WRITE_AT_ONCE = 1 << 30  # the system takes a little less than 2 GiB


def main(argv: list[str]) -> None:
    """Answer requests until there are no more."""
    file, parent, memory = map(int, argv)
    end_with_parent()
    if os.getppid() != parent:
        return
    # Ctrl-C in a terminal or the end of a job's time reaches every process; the main one decides
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    limit(resource.RLIMIT_DATA, memory)
    limit(resource.RLIMIT_CORE, 0)
    cv2.setNumThreads(0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # libraries print about files that are reported anyhow; it must not get among the answers
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(nowhere, output)
    answers.write(READY)
    for line in sys.stdin.buffer:
        answers.write(json.dumps(answer(json.loads(line), file)).encode() + b"\n")


def limit(what: int, most: int) -> None:
    """Lower a limit of this process for good."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def answer(asked: dict[str, Any], file: int) -> dict[str, Any]:
    """The shape of the frames that are now in `file`, or what came instead of them."""
    request = Request(Path(asked["path"]), *asked["sampling"])
    try:
        frames_FHWC = read_with(request, asked["decoder"])
        write(file, frames_FHWC)
        return {"shape": frames_FHWC.shape}
    except UnreadableVideo as error:
        return {"kind": type(error).__name__, "what": error.what, "advice": error.advice}
    except UserError as error:
        return {"user": str(error)}
    except Exception:
        return {"ours": traceback.format_exc()}


def write(file: int, frames_FHWC: np.ndarray) -> None:
    """Put the frames at the beginning of the file."""
    content, done = np.ascontiguousarray(frames_FHWC).data.cast("B"), 0
    while done < len(content):
        done += os.pwrite(file, content[done : done + WRITE_AT_ONCE], done)


if __name__ == "__main__":
    main(sys.argv[1:])
