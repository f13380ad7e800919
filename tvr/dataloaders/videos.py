"""Find the video files of a folder by tolerant names, walking the folder once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tvr.utils.errors import UserError

EXTENSIONS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".3gp", ".wmv", ".m4v")
PREFIX = "v_"


@dataclass(frozen=True)
class VideoIndex:
    """Video files by name without extension (`exact`) and also without `v_` (`bare`)."""

    exact: dict[str, Path]
    bare: dict[str, Path]

    def get(self, video_id: str) -> Path | None:
        """The file of an id given with or without extension and `v_`; None if there is none.

        A file whose name has `v_` exactly where the id has it wins over one that differs.
        """
        return self.exact.get(stem(video_id)) or self.bare.get(match_key(video_id))


def stem(name: str) -> str:
    """`name` without a known video extension, in any case, and without a bare final dot."""
    base, extension = os.path.splitext(name)
    return (base if extension.lower() in EXTENSIONS else name).rstrip(".")


def match_key(name: str) -> str:
    """What two names of one video have in common: no known extension, final dot or `v_`."""
    return stem(name).removeprefix(PREFIX)


def find_videos(root: Path) -> VideoIndex:
    """Index every file below `root`; the result does not depend on the order of the disk.

    Of several files for one id, one named `.mp4` wins, then the first in the order of paths.
    Hidden files and folders (leading dot) are passed over; links to files and folders are
    followed, a folder is entered once. Raises UserError if `root` or a folder in it cannot be
    listed.
    """
    files = sorted(walk(root), key=lambda path: (path.suffix != EXTENSIONS[0], str(path)))
    exact: dict[str, Path] = {}
    bare: dict[str, Path] = {}
    for path in files:
        exact.setdefault(stem(path.name), path)
        bare.setdefault(match_key(path.name), path)
    return VideoIndex(exact, bare)


def walk(root: Path, flag: str = "--video_path") -> Iterator[Path]:
    """Every file below `root`, as `find_videos` says; `flag` is what named the folder.

    Raises:
        UserError: `root` or a folder in it cannot be listed.
    """
    entered: set[str] = set()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.append(entry.path)
                    elif entry.is_file():
                        yield Path(entry.path)
        except OSError as error:
            raise UserError(
                f"{flag} {root}: cannot list {folder} ({error.strerror}). "
                "Name the folder that holds the videos and can be read."
            ) from error
