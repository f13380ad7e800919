"""The videos of a folder: which there are, and each one decoded.

Shapes: F frames, C channels, H and W pixels.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.examine import read_header
from tvr.dataloaders.records import Clip
from tvr.dataloaders.videos import EXTENSIONS, walk
from tvr.pages.pictures import preview
from tvr.search.shards import File, Video
from tvr.utils.errors import UserError


def find_files(root: Path) -> list[File]:
    """Every video file below `root`, by its extension, in the order of their paths.

    Raises:
        UserError: `root` is no folder, cannot be listed, or holds no such file.
    """
    if not root.is_dir():
        raise UserError(f"--videos {root}: no such folder.")
    files = []
    for path in walk(root, "--videos"):
        if path.suffix.lower() in EXTENSIONS:
            # it may go while the others are looked at
            with suppress(FileNotFoundError):
                stat = path.stat()
                files.append(File(str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns))
    if not files:
        raise UserError(f"--videos {root}: holds no video file ({', '.join(EXTENSIONS)}).")
    return sorted(files)


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be decoded, and why."""

    file: File
    problem: str


@dataclass(frozen=True)
class Decoded:
    """A video on its way to the encoder, and its preview."""

    video: Video
    frames_FCHW: Tensor
    preview: bytes


class Folder(Dataset[Decoded | Unreadable | UserError]):
    """One item per file below `root`: decoded, or why it could not be.

    A `UserError` is not about the file: the decoder is not installed.
    """

    def __init__(self, root: Path, files: list[File], frames: FrameSettings) -> None:
        self._root, self._files, self._frames = root, files, frames

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Decoded | Unreadable | UserError:
        file = self._files[index]
        path = self._root / file.path
        try:
            frames_FHWC = self._frames.decode(Clip(file.path, path)).frames_FHWC
        except UserError as error:
            about = f"{path}: "
            if not str(error).startswith(about):
                return error
            return Unreadable(file, str(error).removeprefix(about))
        header = read_header(path)
        video = Video(file, None if header is None else header.seconds)
        return Decoded(video, self._frames.fit(frames_FHWC), preview(frames_FHWC))
