"""Find the video files of a folder by tolerant names, walking the folder once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tvr.utils.errors import UserError

# compress_plan.py has the same list
EXTENSIONS = (
    *(".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".3gp", ".3g2", ".wmv", ".asf"),
    *(".m4v", ".flv", ".ts", ".mts", ".m2ts", ".ogv"),
)
PREFIX = "v_"

Value = TypeVar("Value")


@dataclass(frozen=True)
class VideoIndex:
    """Video files by name without extension, and the further ones of the names with several."""

    files: Mapping[str, Path]
    further: Mapping[str, list[Path]]

    def get(self, video_id: str) -> Path | None:
        """The file of an id, matched as by `names_of`; None if there is none."""
        return look_up(video_id, self.files)

    def others(self, video_id: str) -> list[Path]:
        """Further files that an id matches, beside the one of `get`."""
        matched: list[Path] = []
        for name in names_of(video_id):
            if name in self.files:
                matched += [self.files[name], *self.further.get(name, ())]
        return matched[1:]


def stem(name: str) -> str:
    """`name` without a known video extension, in any case, and without a bare final dot."""
    base, _, extension = name.rpartition(".")
    return (base if base and f".{extension.lower()}" in EXTENSIONS else name).rstrip(".")


def names_of(name: str) -> list[str]:
    """The stems that may stand for the same video, the likeliest first.

    That is its own, with `v_` before it, and with one `v_` less: the id of a video may itself
    begin with `v_`, so both sides of a comparison cannot be stripped alike.
    """
    exact = stem(name)
    shorter = [exact.removeprefix(PREFIX)] if exact.startswith(PREFIX) else []
    return [exact, PREFIX + exact, *shorter]


def look_up(name: str, by_stem: Mapping[str, Value]) -> Value | None:
    """What `by_stem` has for the video called `name`; None if it has nothing."""
    for known in names_of(name):
        if known in by_stem:
            return by_stem[known]
    return None


def find_videos(root: Path) -> VideoIndex:
    """Index every file below `root`; the result does not depend on the order of the disk.

    Of several files for one id, one named `.mp4` wins, then the first in the order of paths.
    Hidden files and folders (leading dot) are passed over, and links that lead nowhere; others
    are followed, a folder is entered once. Raises UserError if `root` or a folder in it cannot be
    listed.
    """
    files: dict[str, Path] = {}
    further: dict[str, list[Path]] = {}
    for path in sorted(walk(root), key=lambda path: (path.suffix != EXTENSIONS[0], str(path))):
        name = stem(path.name)
        if files.setdefault(name, path) is not path:
            further.setdefault(name, []).append(path)
    return VideoIndex(files, further)


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
                    if entry.name.startswith(".") or leads_nowhere(entry):
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


def leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link to what is not there or cannot be reached, as to itself."""
    return entry.is_symlink() and not os.path.exists(entry.path)
