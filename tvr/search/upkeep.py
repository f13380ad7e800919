"""Which rows of an index's shards still count, and shards that became small put together."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvr.models.scoring import slices
from tvr.search.shards import SHARD_NAME, Contents, Damaged, File, Shard, features_of


@dataclass(frozen=True)
class Live:
    """An open shard with those of its rows that count."""

    shard: Shard
    rows: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> list[File]:
        """The files whose videos the shard holds."""
        return [self.shard.videos[row].file for row in self.rows]


def earlier_shards(folder: Path, log: logging.Logger) -> list[Shard]:
    """The shards that are there, of a finished indexing or not; damaged ones are passed over.

    Raises:
        UserError: a shard is of another version or cannot be read.
    """
    shards = []
    for path in sorted(path for path in folder.iterdir() if SHARD_NAME.fullmatch(path.name)):
        try:
            shard = Shard(path)
            shard.check()
            shards.append(shard)
        except Damaged as error:
            log.warning("warning: %s; its videos are encoded again", error)
    return shards


def live_parts(shards: list[Shard], files: list[File]) -> list[Live]:
    """What counts of each shard: files that are there unchanged, each in its latest shard."""
    there = set(files)
    latest = {video.file.path: shard for shard in shards for video in shard.videos}

    def counts(shard: Shard, file: File) -> bool:
        return file in there and latest[file.path] is shard

    return [
        Live(shard, [row for row, video in enumerate(shard.videos) if counts(shard, video.file)])
        for shard in shards
    ]


def sparse(parts: list[Live], per_shard: int) -> list[Live]:
    """The parts of less than half a shard each, if they would fill fewer shards together."""
    small = [part for part in parts if 0 < 2 * len(part) < per_shard]
    return small if math.ceil(sum(map(len, small)) / per_shard) < len(small) else []


def together(parts: list[Live], per_shard: int) -> Iterator[Contents]:
    """The contents of shards that hold what counts of `parts`."""
    means = {part.shard: part.shard.mean_BD() for part in parts}
    places = [(part.shard, row) for part in parts for row in part.rows]
    for block in slices(len(places), per_shard):
        chunk = places[block]
        yield Contents(
            videos=[shard.videos[row] for shard, row in chunk],
            features=features_of(chunk),
            mean_BD=np.stack([means[shard][row] for shard, row in chunk]),
            previews=[shard.preview(row) for shard, row in chunk],
        )
