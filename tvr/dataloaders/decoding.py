"""Decode in a process of its own, which may hang, crash or run out of memory.

Every process that reads data has one such process, started with its first clip. It is a fresh
interpreter that imports what decoding needs only: forking a process with threads is unsafe, and
the loaders' processes may have no children of Python's own kind.

Shapes: F frames, H height, W width, C = 3 channels.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tvr.dataloaders.decoder import KINDS, READY
from tvr.dataloaders.reading import DecoderLost, Request, UnreadableVideo
from tvr.utils.errors import UserError

ROOT = Path(__file__).parents[2]
MEMORY = 4 * 2**30  # bytes: twelve frames of 8K video take 2.4 GB, most others a hundredth of it
KEPT = 2**26  # bytes of memory for frames that stay for the next clip's
READ_AT_ONCE = 2**30
LONGEST_WAIT_MS = 10**6
SECONDS_TO_START = 300.0  # to import the decoders, which a slow disk may hold up
SECONDS_TO_DIE = 10.0  # a process that waits for a broken disk dies when the disk answers


class DecoderProcess:
    """Decodes clips one after another, each in `timeout` seconds and `memory` bytes at most.

    It has `start` seconds more before the first. A copy in a process that is forked or spawned
    starts a process of its own.
    """

    def __init__(
        self, timeout: float, memory: int = MEMORY, start: float = SECONDS_TO_START
    ) -> None:
        self.timeout, self.memory, self.start = timeout, memory, start
        self._running: _Running | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_running": None}

    @property
    def pid(self) -> int | None:
        """The process's number, None where there is none now."""
        return None if self._running is None else self._running.process.pid

    def read(self, request: Request, decoder: str) -> np.ndarray:
        """What `frames.read_with` gives and raises.

        Raises:
            DecoderLost: also where it takes too long, too much memory, or ends the process. The
                next clip gets a new one.
            UserError: the process cannot be started, or not in time; the next clip tries again.
        """
        sampling = (request.framerate, request.max_frames, request.start, request.end)
        asked = {"path": str(request.path), "sampling": sampling, "decoder": decoder}
        running = self._ask(json.dumps(asked).encode() + b"\n")
        try:
            line = running.line(time.monotonic() + self.timeout)
            answer = json.loads(line) if line else {}
            frames_FHWC = running.frames(tuple(answer["shape"])) if "shape" in answer else None
        except BaseException:
            # the next clip must not get this one's answer
            self.close()
            raise
        if not line:
            raise self._lost(running, request, decoder, hung=line is None)
        if frames_FHWC is not None:
            return frames_FHWC
        if "user" in answer:
            raise UserError(answer["user"])
        if "ours" in answer:
            raise RuntimeError(f"decoding {request.path}: {answer['ours']}")
        kind = KINDS[answer["kind"]]
        if kind is DecoderLost:
            self.close()
        raise kind(request.path, answer["what"], answer["advice"])

    def close(self) -> None:
        """End the process, if there is one; another clip starts another."""
        if self._running is not None:
            self._running.end()
            self._running = None

    def _ask(self, line: bytes) -> _Running:
        if self._running is not None and self._running.owner == os.getpid():
            with suppress(BrokenPipeError):
                self._running.stdin.write(line)
                return self._running
            # it died between two clips, of which none is to blame
            self.close()
        self._running = _Running(self.memory, self.start)
        with suppress(BrokenPipeError):
            self._running.stdin.write(line)
        return self._running

    def _lost(
        self, running: _Running, request: Request, decoder: str, hung: bool
    ) -> UnreadableVideo:
        self.close()
        if hung:
            return DecoderLost(
                request.path,
                f"takes more than {self.timeout:g} seconds to decode with {decoder}",
                "Encode it again, or raise --decode_timeout",
            )
        code = running.process.returncode
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return DecoderLost(
            request.path,
            f"ends the process that decodes it with {decoder} ({how})",
            "Encode it again",
        )


class _Running:
    """One such process.

    Raises:
        UserError: it cannot be started, or is not ready after so many seconds.
    """

    def __init__(self, memory: int, seconds: float) -> None:
        self.owner = os.getpid()
        self._file = os.memfd_create("frames")
        numbers = map(str, (self._file, self.owner, memory))
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tvr.dataloaders.decoder", *numbers],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[self._file],
                # NumPy's library of matrix products would reserve memory for every core
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
                # Ctrl-C in a terminal is not for it, not even before it can say so
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._file)
            raise _not_started(str(error.strerror)) from error
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.end = weakref.finalize(self, _end, self.process, self._file, self.owner)
        line = self.line(time.monotonic() + seconds)
        if line != READY:
            self.end()
            hung = f"it is not ready after {seconds:g} seconds"
            raise _not_started(hung if line is None else f"exit code {self.process.returncode}")

    def line(self, deadline: float) -> bytes | None:
        """The next line; empty if the process has ended, None if the time is over before."""
        answers = select.poll()
        answers.register(self.stdout, select.POLLIN)
        line = b""
        while not line.endswith(b"\n"):
            left = 1000 * (deadline - time.monotonic())
            if not answers.poll(min(max(left, 0), LONGEST_WAIT_MS)):
                if time.monotonic() >= deadline:
                    return None
                continue
            part = os.read(self.stdout.fileno(), 2**16)
            if not part:
                return b""
            line += part
        return line

    def frames(self, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of the frames that the process has written."""
        frames_FHWC = np.empty(shape, np.uint8)
        content, done = frames_FHWC.data.cast("B"), 0
        while done < len(content):
            rest = content[done : done + READ_AT_ONCE]
            read = os.preadv(self._file, [rest], done)
            assert read > 0, (shape, done)
            done += read
        if len(content) > KEPT:
            os.ftruncate(self._file, 0)
        return frames_FHWC


def _end(process: subprocess.Popen, file: int, owner: int) -> None:
    # a forked copy has the same numbers, but the process is not its own
    if os.getpid() != owner:
        return
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_DIE)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    os.close(file)


def _not_started(why: str) -> UserError:
    return UserError(
        f"--decode_timeout: the process that decodes cannot be started ({why}). With "
        "--decode_timeout 0 videos are decoded without it, and without a limit of time."
    )
