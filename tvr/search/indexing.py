"""Make the index of a folder of videos, or bring it up to date.

Only files that are new or changed (by path, size and time of change) are decoded. They are worked
through in the order of their paths and written shard by shard, so that an indexing that was
stopped goes on where it was.

Shapes: B videos of a batch or shard, F frames, D embedding width.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from tvr.dataloaders.datasets import checked, init_worker
from tvr.encode import evaluating
from tvr.models.gare import VideoFeatures
from tvr.search.folder import Decoded, Folder, find_files
from tvr.search.lock import locked
from tvr.search.model import SearchModel
from tvr.search.shards import (
    Contents,
    Damaged,
    File,
    Shard,
    Unreadable,
    Video,
    contents_of,
    write_shard,
)
from tvr.search.store import NoIndex, Origin, commit, next_shard, read_manifest
from tvr.search.upkeep import earlier_shards, live_parts, sparse, together
from tvr.utils.errors import UserError
from tvr.utils.files import replacing

VIDEOS_PER_SHARD = 256
UNREADABLE = "unreadable.csv"


@dataclass(frozen=True)
class Report:
    """How many videos were encoded, how many the index holds, and what could not be read."""

    encoded: int
    gallery: int
    unreadable: list[Unreadable]


class Indexer:
    """Brings the index in the folder `index` in line with the videos below `root`."""

    def __init__(
        self, root: Path, index: Path, model: SearchModel, per_shard: int = VIDEOS_PER_SHARD
    ) -> None:
        self.root, self.index, self.model, self.per_shard = root, index, model, per_shard

    def run(self, log: logging.Logger) -> Report:
        """Encode what is new or changed, leave out what is gone, and write the index.

        Raises:
            UserError: there are no videos or none that can be read, another process is at work
                in the index, or it is of another folder or model. What it had finished stays.
        """
        files = find_files(self.root)
        with locked(self.index):
            shards = earlier_shards(self.index, log)
            self.refuse_another(shards, files)
            done = {file for part in live_parts(shards, files) for file in part.files()}
            todo = [file for file in files if file not in done]
            new = [self.write(contents) for contents in self.encode(todo)]
            parts = live_parts([*shards, *new], files)
            unreadable = [record for part in parts for record in part.unreadable]
            write_list(self.index / UNREADABLE, unreadable)
            if len(unreadable) == len(files):
                raise UserError(
                    f"--videos {self.root}: none of its {len(files):,} video files can be read. "
                    f"{self.index / UNREADABLE} says why. The first, {files[0].path}: "
                    f"{unreadable[0].problem}"
                )
            small = sparse(parts, self.per_shard)
            fuller = [self.write(contents) for contents in together(small, self.per_shard)]
            commit(
                self.index,
                Origin.of(self.model, self.root),
                live_parts([*(part.shard for part in parts if part not in small), *fuller], files),
            )
        encoded = sum(len(shard.videos) for shard in new)
        return Report(encoded, len(files) - len(unreadable), unreadable)

    def refuse_another(self, shards: list[Shard], files: list[File]) -> None:
        """Raises UserError where the index is one of another model or folder.

        Where the folder of before is not there, or not known, the shards have to hold one of the
        files at least: it was moved then.
        """
        folder = None
        try:
            origin = read_manifest(self.index).origin
        except (NoIndex, Damaged):
            # it is made again from the shards
            pass
        else:
            self.refuse_other_model(origin.model, origin.fingerprint)
            folder = origin.folder
        for shard in shards:
            self.refuse_other_model("another model", shard.fingerprint)
        if folder is not None and os.path.isdir(folder):
            same = os.path.samefile(folder, self.root)
        else:
            known = {video.file for shard in shards for video in shard.videos}
            same = not known or not known.isdisjoint(files)
        if not same:
            raise UserError(
                f"--videos {self.root}: --index {self.index} is the index of "
                f"{folder or 'other videos'}. Name that folder, or another index."
            )

    def refuse_other_model(self, name: str, fingerprint: str) -> None:
        """Raises UserError unless the fingerprint is this model's."""
        if fingerprint != self.model.fingerprint:
            raise UserError(
                f"--model {self.model.name} (fingerprint {self.model.fingerprint}): --index "
                f"{self.index} was made with {name} (fingerprint {fingerprint}). Name that model, "
                "or another index."
            )

    def write(self, contents: Contents) -> Shard:
        """Write the next shard, and open it."""
        path = next_shard(self.index)
        write_shard(path, self.model.fingerprint, contents)
        return Shard(path)

    def encode(self, files: list[File]) -> Iterator[Contents]:
        """What becomes of the files, a shard at a time.

        Raises:
            UserError: a process that decodes has died.
        """
        run = self.model.run
        loader = DataLoader(
            Folder(self.root, files, run.frames(self.model.gare)),
            batch_size=None,
            num_workers=run.config.workers,
            worker_init_fn=init_worker,
        )
        bar = tqdm(loader, "index", len(files), unit="video", leave=False, disable=None)
        items = checked(bar)
        try:
            for _ in range(0, len(files), self.per_shard):
                yield self.encode_shard(islice(items, self.per_shard))
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a process that decodes videos died ({error}): out of memory, or by a video that "
                "the decoder cannot bear. Try fewer --workers, or --video_decoder opencv."
            ) from error

    def encode_shard(self, items: Iterator[Decoded | Unreadable]) -> Contents:
        """The contents of one shard."""
        decoded, unreadable, parts = [], [], []
        while batch := list(islice(items, self.model.run.config.batch_size_val)):
            unreadable += [item for item in batch if isinstance(item, Unreadable)]
            good = [item for item in batch if isinstance(item, Decoded)]
            if good:
                parts.append(self.features(good))
                decoded += [(item.video, item.preview) for item in good]
        none_BFD = torch.zeros(0, self.model.run.config.max_frames, self.model.gare.backbone.width)
        features = VideoFeatures(
            torch.cat([none_BFD, *(part.frames_BFD for part in parts)]),
            torch.cat([none_BFD[..., 0].bool(), *(part.mask_BF for part in parts)]),
        )
        videos, previews = [video for video, _ in decoded], [picture for _, picture in decoded]
        padding = self.model.gare.settings.padding
        return contents_of(videos, features, previews, unreadable, padding)

    def features(self, batch: list[Decoded]) -> VideoFeatures:
        """The features of a batch, on the CPU."""
        run, gare = self.model.run, self.model.gare
        frames_BFCHW = torch.stack([item.frames_FCHW for item in batch]).to(run.device)
        mask_BF = torch.stack([item.mask_F for item in batch]).to(run.device)
        with evaluating(gare), run.autocast():
            video = gare.encode_video(frames_BFCHW, mask_BF)
        if not video.frames_BFD.isfinite().all():
            raise UserError(f"--model {self.model.name}: it gives no finite features.")
        return VideoFeatures(video.frames_BFD.cpu(), video.mask_BF.cpu())


def index_features(
    index: Path, model: SearchModel, folder: Path, blocks: Iterable[VideoFeatures]
) -> None:
    """Make an index of features that were computed elsewhere: a shard a block, without previews.

    The videos are numbered from 0 and not looked for in `folder`.

    Raises:
        UserError: `index` is no place for an index, or holds one of another model.
    """
    with locked(index):
        shards = []
        for block in blocks:
            first = sum(len(shard.videos) for shard in shards)
            files = [File(f"{first + i:08d}", 0, 0) for i in range(len(block.mask_BF))]
            contents = contents_of(
                [Video(file, None) for file in files],
                block,
                [b""] * len(files),
                [],
                model.gare.settings.padding,
            )
            path = next_shard(index)
            write_shard(path, model.fingerprint, contents)
            shards.append(Shard(path))
        everything = [video.file for shard in shards for video in shard.videos]
        commit(index, Origin.of(model, folder), live_parts(shards, everything))


def write_list(path: Path, unreadable: list[Unreadable]) -> None:
    """Write the CSV of the files that could not be read; names on disk are kept byte for byte."""
    text = io.StringIO()
    rows = [(record.file.path, record.problem) for record in unreadable]
    csv.writer(text, lineterminator="\n").writerows([("path", "problem"), *rows])
    with replacing(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))
