"""Write a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from tvr.utils.errors import LocalError

KEPT = "; an earlier file of that name was left as it is"
NAME_KEPT = 40  # characters of a name that the part's has, too: 255 bytes are the most


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once it is complete and on the disk.

    Raises:
        LocalError: it cannot be written, for instance because the disk is full.
    """
    part = path.parent / f".{path.name[:NAME_KEPT]}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        kept = KEPT if os.path.isfile(path) else ""
        raise LocalError(f"{path}: cannot be written ({error.strerror}){kept}.") from error
    finally:
        # where its folder is none there is nothing to delete, and that was said
        with suppress(OSError):
            part.unlink()


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name for libraries that take UTF-8 only: the file's own, or that of a link to it."""
    if not any("\ud800" <= character <= "\udfff" for character in str(path)):
        yield str(path)
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(path.absolute())
        yield str(link)
