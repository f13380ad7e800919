"""Write a file whole or not at all, or add to its end."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from tvr.utils.errors import LocalError

KEPT = "; an earlier file of that name was left as it is"
NAME_KEPT = 40  # characters of a name that the part's has, too: 255 bytes are the most
# Without those that stand for a byte of a file's name
HALF_PAIRS = re.compile("[\ud800-\udc7f\udd00-\udfff]")


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
        _keep_name(path.parent)
    except OSError as error:
        kept = KEPT if os.path.isfile(path) else ""
        raise unwritable(path, error, kept) from error
    finally:
        # where its folder is none there is nothing to delete, and that was said
        with suppress(OSError):
            part.unlink()


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, which is made where there is none.

    Raises:
        LocalError: it cannot be written, for instance because the disk is full.
    """
    try:
        with path.open("ab") as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError, kept: str = "") -> LocalError:
    """The error of a file that cannot be written; `kept` says what is left of an earlier one."""
    return LocalError(f"{path}: cannot be written ({error.strerror}){kept}.")


def _keep_name(folder: Path) -> None:
    """The new name on the disk, where a power cut leaves it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_csv(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write a CSV file as UTF-8, whole or not at all; the first row is the header.

    File names on disk need not be UTF-8; they are written byte for byte. Half of a surrogate pair,
    which an escape in JSON may be, has no bytes and becomes a replacement character.

    Raises:
        LocalError: it cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    encodable = HALF_PAIRS.sub("\ufffd", text.getvalue())
    with replacing(path) as file:
        file.write(encodable.encode(errors="surrogateescape"))


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
