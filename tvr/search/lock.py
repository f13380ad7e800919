"""Whose folder an index's folder is, and which process may change it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tvr.search.store import read_manifest
from tvr.utils.errors import UserError

LOCK = "tvr-search.lock"
MAGIC = b"This folder is a search index, made by python -m tvr.search index.\n"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The right to change the index, which one process at a time has; makes the folder.

    Raises:
        UserError: another process has it, or the folder is no place for an index.
    """
    try:
        str(folder).encode()
        folder.mkdir(parents=True, exist_ok=True)
        if not may_be_ours(folder):
            raise UserError(f"--index {folder}: not empty, and no index. Name another folder.")
        file = (folder / LOCK).open("ab")
    except UnicodeEncodeError as error:
        raise UserError(f"--index {folder}: its name is not UTF-8. Name another one.") from error
    except OSError as error:
        raise UserError(f"--index {folder}: cannot be written ({error.strerror}).") from error
    with file:
        try:
            # Unlike flock's, this lock is not inherited by the processes that decode
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"--index {folder}: another process is indexing there ({error.strerror}). Wait "
                "until it is done."
            ) from error
        if not file.tell():
            file.write(MAGIC)
            file.flush()
        yield


def may_be_ours(folder: Path) -> bool:
    """Whether the folder is an index of ours, or has nothing in it that could be lost."""
    lock = folder / LOCK
    if lock.is_file():
        with lock.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return True
    try:
        read_manifest(folder)
    except UserError:
        # a process that was killed in its first moment leaves an empty lock
        return all(path == lock and not path.stat().st_size for path in folder.iterdir())
    return True
