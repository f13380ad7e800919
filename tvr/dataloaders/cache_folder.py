"""Which folder is a frame cache, and whether it can be written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryFile

from tvr.utils.errors import LocalError, UserError
from tvr.utils.files import replacing

FORMAT = 1  # of the files in it, see cache_shards.py
MARKER = "tvr-frame-cache"
MAGIC = "This folder is a frame cache, made by tvr, format "


def folder_problem(folder: Path) -> str | None:
    """Why `folder` is no place for a frame cache, and what to do; None if it is one."""
    try:
        if not os.path.lexists(folder):
            return None
        if not folder.is_dir():
            return "is not a folder. Name one that is empty, new, or a frame cache."
        names = os.listdir(folder)
        if MARKER in names:
            return _marker_problem(folder / MARKER)
    except OSError as error:
        return f"cannot be read ({error.strerror})."
    # a process that was killed may leave the marker's unfinished part
    others = [name for name in names if not name.startswith(f".{MARKER}.")]
    if others:
        return (
            f"not a frame cache, and not empty: it holds {min(others)!r}. Name a folder that is "
            "empty, new, or a frame cache."
        )
    return None


def _marker_problem(marker: Path) -> str | None:
    text = marker.read_text(encoding="utf-8", errors="replace")
    found = re.fullmatch(rf"{MAGIC}(\d{{1,9}})\n", text)
    if found and int(found[1]) == FORMAT:
        return None
    if found:
        seen = f"a frame cache of format {found[1]}, and this program reads format {FORMAT}"
    else:
        seen = f"not a frame cache: its file {MARKER} is not as this program writes it"
    return f"{seen}. Name another folder."


def prepare(folder: Path) -> str | None:
    """Make `folder` a frame cache if it is none; returns why it cannot be written, if so.

    Raises:
        UserError: it is no place for one, or cannot be created.
    """
    problem = folder_problem(folder)
    if problem is not None:
        raise UserError(f"--frame_cache {folder}: {problem}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--frame_cache {folder}: cannot be created ({error.strerror}).") from error
    try:
        _mark(folder / MARKER)
        # permissions do not tell: a file system may be mounted for reading only
        with TemporaryFile(dir=folder):
            return None
    except LocalError as error:
        return getattr(error.__cause__, "strerror", str(error))
    except OSError as error:
        return error.strerror


def _mark(marker: Path) -> None:
    if marker.is_file():
        return
    try:
        with replacing(marker) as file:
            file.write(f"{MAGIC}{FORMAT}\n".encode())
    except LocalError:
        # another process may have been quicker
        if not marker.is_file():
            raise
