"""One shard of an index: some videos, in a file that is written once.

    frames_BFD fp32, mask_BF bool, mean_BD fp32 of length 1, previews uint8, ends_B int64

Its metadata hold the index's version and fingerprint, as JSON the videos, and checksums (CRC-32):
of every row's features and preview, of mean_BD, and of the rest. What a broken disk changes is
noticed where it is read. Preview i is the bytes of `previews` from the end of preview i - 1 to its
own.

Shapes: B videos, F frames, D embedding width.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from tvr.models.gare import VideoFeatures
from tvr.models.pooling import mean_frame
from tvr.utils.errors import UserError
from tvr.utils.files import replacing

VERSION = 2
AGAIN = "Run the index command again; it repairs what is there"
NOT_AS_WRITTEN = "its content is not as it was written"
SHARD_NAME = re.compile(r"shard-(\d{6,})\.safetensors")


class Damaged(UserError):
    """A file of an index that is cut off or otherwise not what was written."""


class File(NamedTuple):
    """A file as it was when it was looked at; its path is relative to the indexed folder."""

    path: str
    size: int
    mtime_ns: int


class Video(NamedTuple):
    """A file that was encoded, and how long it plays, where its container says so."""

    file: File
    seconds: float | None


@dataclass(frozen=True)
class Contents:
    """What a shard holds. The features lie on the CPU; a preview may be empty."""

    videos: list[Video]
    features: VideoFeatures
    mean_BD: np.ndarray
    previews: list[bytes]


def contents_of(
    videos: list[Video],
    features: VideoFeatures,
    previews: list[bytes],
    padding: str,
) -> Contents:
    """The contents of a shard, with the mean frames that the model's `padding` asks for."""
    mean_BD = mean_frame(features.frames_BFD, features.mask_BF, padding)
    return Contents(videos, features, unit(mean_BD), previews)


def joined(parts: list[Contents]) -> Contents:
    """The contents of several shards as those of one."""
    return Contents(
        videos=[video for part in parts for video in part.videos],
        features=VideoFeatures(
            torch.cat([part.features.frames_BFD for part in parts]),
            torch.cat([part.features.mask_BF for part in parts]),
        ),
        mean_BD=np.concatenate([part.mean_BD for part in parts]),
        previews=[preview for part in parts for preview in part.previews],
    )


def unit(rows_BD: Tensor) -> np.ndarray:
    """The rows at length 1, as FAISS takes them."""
    return F.normalize(rows_BD, dim=1).cpu().numpy()


def checksum(*parts: np.ndarray | bytes) -> int:
    """The CRC-32 of these bytes, one after the other."""
    found = 0
    for part in parts:
        content = np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part
        found = crc32(content, found)
    return found


def checksum_of_rest(metadata: dict[str, str], ends_B: np.ndarray) -> int:
    """The CRC-32 of a shard's metadata but itself, whatever their order, and of `ends_B`."""
    rest = sorted((name, value) for name, value in metadata.items() if name != "rest")
    return checksum(json.dumps(rest).encode(), ends_B)


def write_shard(path: Path, fingerprint: str, contents: Contents) -> None:
    """Write a shard, whole or not at all.

    Raises:
        LocalError: it cannot be written.
    """
    features, previews = contents.features, contents.previews
    frames_BFD, mask_BF = features.frames_BFD.numpy(), features.mask_BF.numpy()
    tensors = {
        "frames_BFD": frames_BFD,
        "mask_BF": mask_BF,
        "mean_BD": contents.mean_BD,
        "previews": np.frombuffer(b"".join(previews), np.uint8),
        "ends_B": np.cumsum([len(preview) for preview in previews], dtype=np.int64),
    }
    metadata = {
        "version": str(VERSION),
        "fingerprint": fingerprint,
        # names on disk need not be UTF-8: JSON's escapes keep every byte of them
        "videos": json.dumps(contents.videos),
        "features": json.dumps(list(map(checksum, frames_BFD, mask_BF))),
        "previews": json.dumps(list(map(checksum, previews))),
        "means": str(checksum(contents.mean_BD)),
    }
    metadata["rest"] = str(checksum_of_rest(metadata, tensors["ends_B"]))
    with replacing(path) as file:
        file.write(save(tensors, metadata))


class Shard:
    """An open shard: records in memory, features and previews read from the disk row by row.

    `shape` is (F, D).

    Raises:
        Damaged: the file is missing, cut off or otherwise not what was written. Its methods raise
            it as well, for what they read.
        UserError: it cannot be read, or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # It maps the file, and compares its size with what its header announces
            self._file = safe_open(path, framework="numpy")
            metadata = self._file.metadata() or {}
            self.version = metadata["version"]
            if self.version == str(VERSION):
                self.fingerprint = metadata["fingerprint"]
                self.videos = [Video(File(*f), s) for f, s in json.loads(metadata["videos"])]
                self._frames_BFD = self._file.get_slice("frames_BFD")
                self.shape = tuple(self._frames_BFD.get_shape()[1:])
                self._mask_BF = self._file.get_slice("mask_BF")
                self._previews = self._file.get_slice("previews")
                self._ends_B = self._file.get_tensor("ends_B")
                refuse_mismatch(self._file, self.videos, self._ends_B)
                self._checksums = {
                    name: json.loads(metadata[name]) for name in ("features", "previews", "means")
                }
                rest = checksum_of_rest(metadata, self._ends_B)
                if metadata["rest"] != str(rest):
                    raise ValueError(NOT_AS_WRITTEN)
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise Damaged(f"{path}: the file is damaged ({error})") from error
        except FileNotFoundError as error:
            raise Damaged(f"{path}: the file is missing") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error}).") from error
        if self.version != str(VERSION):
            raise other_version(path, self.version)

    def features(self, row: int) -> tuple[Tensor, Tensor]:
        """frames_FD and mask_F of a row, copied from the disk."""
        frames_FD, mask_F = self._frames_BFD[row], self._mask_BF[row]
        self._refuse_unless(checksum(frames_FD, mask_F) == self._checksums["features"][row])
        return torch.from_numpy(frames_FD), torch.from_numpy(mask_F)

    def mean_BD(self) -> np.ndarray:
        """The mean frames of all rows, at length 1, read from the disk."""
        mean_BD = self._file.get_tensor("mean_BD")
        self._refuse_unless(checksum(mean_BD) == self._checksums["means"])
        return mean_BD

    def preview(self, row: int) -> bytes:
        """The preview of a row; empty where there is none."""
        start, end = (int(self._ends_B[row - 1]) if row else 0), int(self._ends_B[row])
        found = self._previews[start:end].tobytes() if end > start else b""
        self._refuse_unless(checksum(found) == self._checksums["previews"][row])
        return found

    def check(self) -> None:
        """Read all of it. Raises Damaged where it is not as it was written."""
        self.mean_BD()
        for row in range(len(self.videos)):
            self.features(row)
            self.preview(row)

    def _refuse_unless(self, as_written: bool) -> None:
        if not as_written:
            raise Damaged(f"{self.path}: the file is damaged ({NOT_AS_WRITTEN}). {AGAIN}.")


def refuse_mismatch(file: safe_open, videos: list[Video], ends_B: np.ndarray) -> None:
    """Raises ValueError where records, features and previews are not of the same videos."""
    for video in videos:
        path, size, mtime_ns = video.file
        whole = isinstance(path, str) and type(size) is int and type(mtime_ns) is int
        if not whole or type(video.seconds) not in (float, int, type(None)):
            raise ValueError("a video's record is not as it was written")
    names = ("frames_BFD", "mask_BF", "mean_BD", "previews")
    frames, mask, mean, previews = (file.get_slice(name) for name in names)
    kinds = tuple(tensor.get_dtype() for tensor in (frames, mask, mean, previews))
    shape = frames.get_shape()
    if (
        kinds != ("F32", "BOOL", "F32", "U8")
        or len(shape) != 3
        or 0 in shape
        or shape[0] != len(videos)
        or mask.get_shape() != shape[:2]
        or mean.get_shape() != [shape[0], shape[2]]
        or ends_B.shape != (shape[0],)
        or ends_B.dtype != np.int64
        or previews.get_shape() != [ends_B[-1] if len(ends_B) else 0]
        or (np.diff(ends_B, prepend=0) < 0).any()
    ):
        raise ValueError("its parts do not belong together")


def refuse_other_shapes(shards: list[Shard]) -> None:
    """Raises UserError where shards are not of as many frames and numbers as the first."""
    for shard in shards:
        if shard.shape != shards[0].shape:
            raise UserError(
                f"{shard.path}: holds features of {shard.shape} frames and numbers, "
                f"{shards[0].path.name} of {shards[0].shape}. Move it out of the folder and run "
                "the index command again."
            )


def features_of(places: list[tuple[Shard, int]]) -> VideoFeatures:
    """The features of rows of shards, copied from the disk."""
    parts = [shard.features(row) for shard, row in places]
    return VideoFeatures(
        torch.stack([frames_FD for frames_FD, _ in parts]),
        torch.stack([mask_F for _, mask_F in parts]),
    )


def other_version(path: Path, seen: object) -> UserError:
    """The error for an index that another version of this program wrote."""
    return UserError(
        f"{path}: index version {seen}, this program reads {VERSION}. Make a new index, in another "
        "folder."
    )
