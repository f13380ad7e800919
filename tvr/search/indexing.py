"""Make the index of a folder of videos, or bring it up to date.

Only files that are new or changed (by path, size and time of change) are decoded, and those that
could not be read before. They are worked through in the order of their paths and written shard by
shard, the last one also when it is stopped, so that an indexing goes on where it was.

Shapes: B videos of a batch or shard, F frames, D embedding width.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import DataLoader
from tqdm import tqdm

from tvr.dataloaders.batches import packed
from tvr.dataloaders.workers import WorkerDied, checked, deaths_reported, init_worker
from tvr.encode import evaluating
from tvr.models.gare import VideoFeatures
from tvr.search.folder import Decoded, Folder, Unreadable, find_files
from tvr.search.lock import locked
from tvr.search.model import SearchModel
from tvr.search.shards import (
    Contents,
    Damaged,
    File,
    Shard,
    Video,
    contents_of,
    joined,
    refuse_other_shapes,
)
from tvr.search.store import NoIndex, Origin, add_shard, commit, read_manifest
from tvr.search.upkeep import earlier_shards, live_parts, sparse, together
from tvr.utils.errors import UserError
from tvr.utils.files import write_csv

VIDEOS_PER_SHARD = 256
SECONDS_PER_SHARD = 30.0  # what a killed indexing has done in vain at most
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
        self,
        root: Path,
        index: Path,
        model: SearchModel,
        per_shard: int = VIDEOS_PER_SHARD,
        seconds: float = SECONDS_PER_SHARD,
    ) -> None:
        self.root, self.index, self.model = root, index, model
        self.per_shard, self.seconds = per_shard, seconds

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
            new, unreadable = self.encode(todo)
            parts = live_parts([*shards, *new], files)
            refuse_other_shapes([part.shard for part in parts if len(part)])
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
        """The next shard, written."""
        return add_shard(self.index, self.model.fingerprint, contents)

    def encode(self, files: list[File]) -> tuple[list[Shard], list[Unreadable]]:
        """Encode the files into new shards; what is encoded is kept also where this is stopped.

        Raises:
            UserError: a process that decodes has died, or the model gives no finite features.
        """
        shards: list[Shard] = []
        unreadable: list[Unreadable] = []
        parts: list[Contents] = []
        batch: list[Decoded] = []
        seen, started = 0, time.monotonic()
        try:
            with deaths_reported():
                for item in self.decode(files):
                    seen += 1
                    if isinstance(item, Unreadable):
                        unreadable.append(item)
                        continue
                    batch.append(item)
                    full = sum(len(part.videos) for part in parts) + len(batch) == self.per_shard
                    if full or len(batch) == self.model.run.config.batch_size_val:
                        parts.append(self.encode_batch(batch))
                        batch = []
                    if full or (parts and time.monotonic() > started + self.seconds):
                        shards.append(self.write(joined(parts)))
                        parts, started = [], time.monotonic()
                if batch:
                    parts.append(self.encode_batch(batch))
        except WorkerDied as error:
            raise self.has_died(files[seen:], error) from error
        finally:
            if parts:
                shards.append(self.write(joined(parts)))
        return shards, unreadable

    def decode(self, files: list[File]) -> Iterator[Decoded | Unreadable]:
        """The files' videos in the same order."""
        run = self.model.run
        loader = DataLoader(
            Folder(self.root, files, run.frames(self.model.gare)),
            batch_size=None,
            num_workers=run.config.workers,
            worker_init_fn=init_worker,
        )
        bar = tqdm(loader, "index", len(files), unit="video", leave=False, disable=None)
        return checked(bar)

    def has_died(self, left: list[File], error: WorkerDied) -> UserError:
        """The error for the death of a process that decodes, while these files were left."""
        # every process is given two files in advance
        ahead = left[: 2 * self.model.run.config.workers]
        among = f" It was among {ahead[0].path} to {ahead[-1].path}, by path." if ahead else ""
        return UserError(
            f"{error}{among} What is encoded is kept, so without that video in the folder the same "
            "command goes on from here."
        )

    def encode_batch(self, batch: list[Decoded]) -> Contents:
        """What a shard holds of these videos."""
        run, gare = self.model.run, self.model.gare
        frames_NCHW, mask_BF = packed([item.frames_FCHW for item in batch], run.config.max_frames)
        with evaluating(gare), run.autocast():
            video = gare.encode_video(frames_NCHW.to(run.device), mask_BF.to(run.device))
        if not video.frames_BFD.isfinite().all():
            raise UserError(f"--model {self.model.name}: it gives no finite features.")
        return contents_of(
            [item.video for item in batch],
            video.to("cpu"),
            [item.preview for item in batch],
            gare.settings.padding,
        )


def index_features(
    index: Path, model: SearchModel, folder: Path, blocks: Iterable[VideoFeatures]
) -> None:
    """Make an index of features that were computed elsewhere: a shard a block, without previews.

    No command does this; the benchmark of search and tests do. The videos are numbered from 0 and
    not looked for in `folder`.

    Raises:
        UserError: `index` is no place for an index, or holds one of another model.
    """
    with locked(index):
        shards: list[Shard] = []
        for block in blocks:
            first = sum(len(shard.videos) for shard in shards)
            files = [File(f"{first + i:08d}", 0, 0) for i in range(len(block.mask_BF))]
            contents = contents_of(
                [Video(file, None) for file in files],
                block,
                [b""] * len(files),
                model.gare.settings.padding,
            )
            shards.append(add_shard(index, model.fingerprint, contents))
        everything = [video.file for shard in shards for video in shard.videos]
        commit(index, Origin.of(model, folder), live_parts(shards, everything))


def write_list(path: Path, unreadable: list[Unreadable]) -> None:
    """Write the CSV of the files that could not be read."""
    rows = ((record.file.path, record.problem) for record in unreadable)
    write_csv(path, [("path", "problem"), *rows])
