"""The frame cache: every clip is decoded once, and read from the disk after that.

A clip is looked up by everything that decides its frames. Its file counts by resolved path, size
and time of change, so a file that is replaced or moved is decoded anew: two folders may have files
of the same name, size and time, and the wrong one of them must never be served. How long that
takes is known; how long a wrong result stays unnoticed is not. The rest, frame rate to library
versions, is the header of the files in `cache_shards.py`.

Shapes: F frames, C = 3 channels, H = W = R pixels.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from tvr.dataloaders.cache_folder import prepare
from tvr.dataloaders.cache_shards import INDEX_NAME, Entry, Shard, Writer
from tvr.dataloaders.records import Clip
from tvr.utils.errors import LocalError, UserError

PIXELS = 2  # raised when frames.py, containers.py or transforms.py come to give other frames


class Fresh(NamedTuple):
    """Frames_FCHW from a video file.

    `by_chance` is why they are another decoder's than the one asked for, where that is not sure to
    happen again: such frames are served, but not kept.
    """

    frames_FCHW: Tensor
    by_chance: str | None = None


Decode = Callable[[Clip], Fresh]


class NotWritten(LocalError):
    """An entry could not be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"--frame_cache {folder}: cannot be written ({reason}).")


class FrameCache:
    """The cache in `folder` for frames made with the given settings, which may be empty.

    Many processes may use and fill it at once. A copy in a process that is forked or spawned has
    files of its own to write; it shares with the others whether writing has come to an end.

    Attributes:
        unwritable: why nothing can be written from the start; None if it can.

    Raises:
        UserError: `folder` cannot be made or read, holds other files, or is of another format.
    """

    def __init__(
        self, folder: Path, framerate: float, max_frames: int, resolution: int, decoder: str
    ) -> None:
        self.folder = folder
        self.unwritable = prepare(folder)
        self._max_frames, self._resolution = max_frames, resolution
        self._header = _header(framerate, max_frames, resolution, decoder)
        self._shards: dict[str, Shard] = {}
        self._entries: dict[bytes, list[Entry]] = {}
        self._damaged: set[bytes] = set()
        self._writer: Writer | None = None
        # the error that ended writing, 0 before, and damaged entries that were not replaced
        self._shared = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._refresh()
        self._told = self._totals()

    def __getstate__(self) -> dict:
        return {**vars(self), "_writer": None}

    def read(self, clip: Clip, decode: Decode) -> Tensor:
        """The clip's frames_FCHW, uint8: from the cache, or else decoded and kept if possible."""
        key = _key(clip)
        frames_FCHW = self._find(key)
        if frames_FCHW is not None:
            return frames_FCHW
        frames_FCHW, by_chance = decode(clip)
        # a file that has changed meanwhile has other frames than its key says
        if by_chance is None and key is not None and _key(clip) == key:
            try:
                self._keep(key, frames_FCHW)
            except NotWritten:
                self._shared[1] += key in self._damaged
        return frames_FCHW

    def fill(self, clip: Clip, decode: Decode) -> bool:
        """Decode and keep the clip unless it is there and whole; whether that was to be done.

        Raises:
            NotWritten: it could not be kept.
            UserError: what `decode` raises, the file changed meanwhile, or its frames came by
                chance.
        """
        key = _key(clip)
        if self._find(key) is not None:
            return False
        frames_FCHW, by_chance = decode(clip)
        if by_chance is not None:
            raise UserError(f"{by_chance} What the other decoder gives is not kept.")
        if key is None or _key(clip) != key:
            raise UserError(f"{clip.path}: the video file changed while it was decoded. Try again.")
        self._keep(key, frames_FCHW)
        return True

    def has_entry(self, clip: Clip) -> bool:
        """Whether there is an entry for the clip, whole or damaged."""
        return _key(clip) in self._entries

    def space(self, clips: Iterable[Clip]) -> tuple[int, int]:
        """The most bytes that those of the clips need which have no entry, and how many are free.

        Raises:
            OSError: the folder is gone.
        """
        missing = sum(not self.has_entry(clip) for clip in clips)
        most = missing * self._max_frames * 3 * self._resolution**2
        return most, shutil.disk_usage(self.folder).free

    def describe(self) -> str:
        """What is there, for the log."""
        shards = self._shards.values()
        others = sum(shard.others for shard in shards)
        unusable = sum(shard.unusable for shard in shards)
        size = sum(shard.size() for shard in shards)
        return (
            f"frame cache {self.folder}: {len(self._entries):,} clips with these settings"
            + (f", {others:,} entries with others" if others else "")
            + (f", {unusable:,} damaged lines" if unusable else "")
            + f"; {readable(size)}"
        )

    def news(self) -> tuple[list[str], list[str]]:
        """What has happened since the last call, in all processes: facts, and warnings."""
        self._refresh()
        totals, told = self._totals(), self._told
        self._told = totals
        added, replaced, unreplaced, stopped = (
            now - before for now, before in zip(totals, told, strict=True)
        )
        facts, warnings = [], []
        if added:
            anew = f", {replaced:,} of them in place of damaged entries" if replaced else ""
            facts.append(f"frame cache {self.folder}: {added:,} entries added{anew}")
        if unreplaced:
            warnings.append(
                f"frame cache {self.folder}: decoded {unreplaced:,} clips whose entries are damaged"
            )
        if stopped:
            reason = os.strerror(stopped)
            warnings.append(
                f"frame cache {self.folder}: cannot be written any more ({reason}). Clips that are "
                "not in it are decoded each time."
            )
        return facts, warnings

    def _totals(self) -> tuple[int, int, int, int]:
        stopped, unreplaced = self._shared.tolist()
        replaced = sum(shard.replaced for shard in self._shards.values())
        return sum(map(len, self._entries.values())), replaced, unreplaced, stopped

    def _find(self, key: bytes | None) -> Tensor | None:
        """The frames of an entry that is whole, also of one that was just added elsewhere."""
        if key is None:
            return None
        found = self._whole(key)
        if found is None:
            self._refresh()
            found = self._whole(key)
        return found

    def _whole(self, key: bytes) -> Tensor | None:
        entries = self._entries.get(key, [])
        # backwards: a later one was written because those before it are damaged
        for entry in reversed(entries):
            if entry.frames <= self._max_frames:
                frames_FCHW = entry.shard.frames(key, entry, self._resolution)
                if frames_FCHW is not None:
                    return torch.from_numpy(frames_FCHW)
            self._damaged.add(key)
        return None

    def _refresh(self) -> None:
        """Read what was added to the folder, by any process."""
        try:
            with os.scandir(self.folder) as files:
                names = [
                    file.name
                    for file in files
                    if file.name not in self._shards
                    and INDEX_NAME.fullmatch(file.name)
                    and file.is_file()
                ]
        except OSError:
            names = []
        for name in names:
            self._shards[name] = Shard(self.folder / name, self._header)
        for shard in self._shards.values():
            for key, entry in shard.news():
                self._entries.setdefault(key, []).append(entry)

    def _keep(self, key: bytes, frames_FCHW: Tensor) -> None:
        """Write an entry. Raises NotWritten, as all processes will after the first error."""
        reason = self.unwritable or (os.strerror(int(self._shared[0])) if self._shared[0] else None)
        if reason is not None:
            raise NotWritten(self.folder, reason)
        try:
            if self._writer is None or self._writer.pid != os.getpid():
                self._writer = Writer(self.folder, self._header)
            self._writer.append(key, frames_FCHW.numpy(), key in self._damaged)
        except OSError as error:
            self._shared[0] = error.errno or errno.EIO
            raise NotWritten(self.folder, str(error.strerror)) from error


def readable(size: int) -> str:
    """A number of bytes in the unit that suits it."""
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
    return f"{size / unit:,.1f} {name}"


def _header(framerate: float, max_frames: int, resolution: int, decoder: str) -> bytes:
    """Everything beside the file that decides its frames, as one line."""
    libraries = {name: _version(name) for name in ("torch", "torchvision")}
    # what one decoder cannot read, the other one does
    libraries |= {"opencv": cv2.__version__, "decord": _version("decord")}
    settings = {
        "pixels": PIXELS,
        "framerate": float(framerate),
        "max_frames": max_frames,
        "resolution": resolution,
        "decoder": decoder,
        "libraries": libraries,
        # colours are converted by code that differs between architectures, though not, as
        # measured for the resizing, between the instruction sets of one
        "machine": platform.machine(),
    }
    return json.dumps(settings).encode()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _key(clip: Clip) -> bytes | None:
    """A digest of the clip's file and segment; None if the file is not there."""
    try:
        path = os.path.realpath(clip.path)
        stat = os.stat(path)
    except OSError:
        return None
    facts = f"{stat.st_size} {stat.st_mtime_ns} {clip.start} {clip.end} "
    digest = blake2b(facts.encode() + os.fsencode(path), digest_size=16)
    return digest.hexdigest().encode()
