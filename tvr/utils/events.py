"""TensorBoard's event files, written in the call that adds to them.

`torch.utils.tensorboard` has a thread do it. Where the disk is full, that thread prints a traceback
of its own, and every later call raises its error again, closing included.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from tvr.utils.errors import LocalError
from tvr.utils.files import append

VERSION = "brain.Event:2"  # since which a session's start says what it replaces


class EventFile:
    """A new file of scalars in a folder that TensorBoard shows."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """From `first_step` on, what earlier files of the folder have is no longer shown.

        Raises:
            LocalError: it cannot be written, as on a full disk.
        """
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise LocalError(f"{folder}: cannot be made ({error.strerror}).") from error
        # TensorBoard reads a folder's files in the order of their names
        moment = f"{time.time():017.6f}"
        name = f"events.out.tfevents.{moment}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        started = SessionLog(status=SessionLog.START)
        self._write(Event(file_version=VERSION), Event(step=first_step, session_log=started))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add these values, each under its name.

        Raises:
            LocalError: they cannot be written, as on a full disk.
        """
        named = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=named)))

    def _write(self, *events: Event) -> None:
        framed = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(framed).write(event.SerializeToString())
        append(self._path, framed.getvalue())
