"""The output folder of a run, and config.json in it: what was asked for, by which code, where."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from tvr.build import Run
from tvr.checkpoint import write_json
from tvr.presets import deviations
from tvr.utils.errors import UserError
from tvr.utils.logging import LOG, commit, environment

CONFIG = "config.json"


def make_output_dir(name: str) -> Path:
    """The output folder, created where it is missing.

    Raises:
        UserError: the name is a file, or the folder cannot be made or written.
    """
    path = Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir {path}: cannot be created ({error.strerror}).") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"--output_dir {path}: you may not write there.")
    return path


@contextmanager
def held(run: Run) -> Iterator[None]:
    """The output folder for this run alone: its log is locked by the main process.

    Raises:
        UserError: another run is at work there.
    """
    if not run.ranks.is_main:
        yield
        return
    with (run.output_dir / LOG).open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # some network file systems have no locks
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(
                    f"--output_dir {run.output_dir}: another run is at work there. Wait until it "
                    "is done, or choose another folder."
                ) from error
        yield


def write_config(run: Run) -> None:
    """Write config.json into the output folder, on the main process.

    Only once nothing can be refused any more, and a checkpoint's settings are adopted: what is
    there may be another run's.

    Raises:
        LocalError: it cannot be written.
    """
    if not run.ranks.is_main:
        return
    settings = run.settings_in_force()
    write_json(
        run.output_dir / CONFIG,
        {
            "command": run.command,
            "started": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "processes": run.ranks.world_size,
            "precision": run.precision,
            "commit": commit(),
            "environment": environment(run.device),
            "settings": settings,
            "not_the_papers": {
                name: {"paper": paper, "here": here}
                for name, (paper, here) in deviations(run.config.public()).items()
                if name in settings
            },
        },
    )
