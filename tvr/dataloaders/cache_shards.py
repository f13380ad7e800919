"""The files of a frame cache: one process writes a pair of them, every process reads all.

`NAME.frames` holds frames_FCHW as raw bytes, one clip after the other. `NAME.index` starts with a
line that says with what settings they were made; then comes a line for each clip, with a checksum
of the frames and one of the line itself, written once the frames are. NAME is drawn at random and
its files only grow, so that any number of processes write at once without a lock. What a killed
process, a full disk or a broken one leaves behind fails a checksum and counts as not there.

Shapes: F frames, C = 3 channels, H = W = R pixels.
"""

from __future__ import annotations

import mmap
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4
from zlib import crc32

import numpy as np

INDEX, FRAMES = ".index", ".frames"
INDEX_NAME = re.compile(rf"[0-9a-f]{{32}}\{INDEX}")
# key, offset, frames, checksum of the frames, whether it is for a damaged one, of the line so far
LINE = re.compile(rb"(([0-9a-f]{32}) (\d{1,15}) (\d{1,4}) ([0-9a-f]{8}) ([01])) ([0-9a-f]{8})")


class Entry(NamedTuple):
    """Where the frames of a clip are: `crc` is of the key and the F = `frames` frames."""

    shard: Shard
    offset: int
    frames: int
    crc: int


def checksum(key: bytes, frames: np.ndarray) -> int:
    """The CRC-32 of frames that belong to `key`: those of another clip do not have it."""
    return crc32(np.ascontiguousarray(frames).data, crc32(key))


class Shard:
    """One pair of files, for reading.

    Attributes:
        others: entries made with other settings than `header` says.
        replaced: entries that took the place of damaged ones.
        unusable: lines that are not as they were written.
    """

    def __init__(self, index: Path, header: bytes) -> None:
        self.index, self.path = index, index.with_suffix(FRAMES)
        self.others = self.replaced = self.unusable = 0
        self._header, self._ours, self._read = header, False, 0
        self._map: mmap.mmap | None = None

    def __getstate__(self) -> dict:
        # a mapping cannot be sent to another process, which makes its own
        return {**vars(self), "_map": None}

    def news(self) -> list[tuple[bytes, Entry]]:
        """The keys and entries whose lines have been completed since the last call."""
        try:
            if os.stat(self.index).st_size <= self._read:
                return []
            with self.index.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except OSError:
            return []
        complete = added[: added.rfind(b"\n") + 1]
        lines = complete.split(b"\n")[:-1]
        if lines and self._read == 0:
            self._ours = lines.pop(0) == self._header
        self._read += len(complete)
        if not self._ours:
            self.others += len(lines)
            return []
        return [found for line in lines if (found := self._parse(line)) is not None]

    def _parse(self, line: bytes) -> tuple[bytes, Entry] | None:
        match = LINE.fullmatch(line)
        if match is None or crc32(match[1]) != int(match[7], 16):
            self.unusable += 1
            return None
        self.replaced += match[6] == b"1"
        return match[2], Entry(self, int(match[3]), int(match[4]), int(match[5], 16))

    def frames(self, key: bytes, entry: Entry, resolution: int) -> np.ndarray | None:
        """A copy of the entry's frames_FCHW, uint8, or None where they are not as written."""
        shape = (entry.frames, 3, resolution, resolution)
        size = entry.frames * 3 * resolution**2
        try:
            # asked each time: to touch a mapping beyond its file's end would kill the process
            if self._map is None or len(self._map) < entry.offset + size <= self._map.size():
                self._map = _mapped(self.path)
            if size == 0 or min(len(self._map), self._map.size()) < entry.offset + size:
                return None
        except (OSError, ValueError):
            return None
        frames_FCHW = np.frombuffer(self._map, np.uint8, size, entry.offset).reshape(shape).copy()
        # the copy is what is served, so the copy is what is checked
        return frames_FCHW if checksum(key, frames_FCHW) == entry.crc else None

    def size(self) -> int:
        """Bytes of both files."""
        total = 0
        for path in (self.index, self.path):
            with suppress(OSError):
                total += path.stat().st_size
        return total


def _mapped(path: Path) -> mmap.mmap:
    """Raises OSError, or ValueError where there is nothing to map."""
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Writer:
    """A new pair of files, for the process that makes it: `pid`.

    Raises:
        OSError: they cannot be written; so does `append`.
    """

    def __init__(self, folder: Path, header: bytes) -> None:
        self.pid = os.getpid()
        index = folder / f"{uuid4().hex}{INDEX}"
        # unbuffered: a forked process must not have a buffer to write out a second time
        self._frames = index.with_suffix(FRAMES).open("xb", buffering=0)
        self._index = index.open("xb", buffering=0)
        _write(self._index, header + b"\n")

    def append(self, key: bytes, frames_FCHW: np.ndarray, replaces: bool) -> None:
        """Write frames, then their line."""
        frames_FCHW = np.ascontiguousarray(frames_FCHW)
        offset = self._frames.seek(0, os.SEEK_END)
        crc = checksum(key, frames_FCHW)
        line = b"%b %d %d %08x %d" % (key, offset, len(frames_FCHW), crc, replaces)
        try:
            _write(self._frames, frames_FCHW.data.cast("B"))
        except OSError:
            # no line knows of these bytes, and a full disk can use their space
            with suppress(OSError):
                self._frames.truncate(offset)
            raise
        _write(self._index, b"%b %08x\n" % (line, crc32(line)))


def _write(file: BinaryIO, content: bytes | memoryview) -> None:
    """Write all of it: the system may take a part at a time, as it does before a disk is full."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
