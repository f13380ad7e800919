"""What the tests of the frame cache share: spoilt videos, the cache's files, and small disks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.records import Clip

SETTINGS = FrameSettings(framerate=1.0, max_frames=4, resolution=32, decoder="decord")


def spoil(path: Path) -> None:
    """Make a video unreadable, but of the same size and time: only a cache still has its frames."""
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def lines(folder: Path) -> list[bytes]:
    """The entries' lines in all index files, complete ones."""
    indices = sorted(folder.glob("*.index"))
    return [line for path in indices for line in path.read_bytes().split(b"\n")[1:-1]]


class NotThereError(Exception):
    """Raised where a clip would have to be decoded."""


def served(folder: Path, clips: list[Clip], settings: FrameSettings = SETTINGS) -> list:
    """Each clip's frames as a new process would be served them; None where it would decode."""

    def decode(clip: Clip) -> torch.Tensor:
        raise NotThereError

    cache = settings.cached(folder).cache
    found = []
    for clip in clips:
        try:
            found.append(cache.read(clip, decode))
        except NotThereError:
            found.append(None)
    return found


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own at `folder`, where this user may mount one."""
    folder.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder))
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        # lazily: this process may still have a file of it mapped
        subprocess.run(("umount", "-l", str(folder)), check=True)


def make_read_only(folder: Path) -> None:
    """For root as well, whom permissions do not bind."""
    subprocess.run(("mount", "-o", "remount,ro", str(folder)), check=True)
