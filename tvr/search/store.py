"""A search index on disk.

    shard-000000.safetensors …  what became of up to 256 files each; never changed (shards.py)
    vectors-000000.faiss        every video's mean frame at length 1, by inner product
    manifest.json               which of these belong together; written last
    unreadable.csv              the files that could not be read, and why, for people
    tvr-search.lock             says whose folder this is; held while one process indexes

A row is a video's number: shard by shard in the manifest's order, without the rows that a later
shard replaced or whose file is gone. What the manifest does not name does not count, so an
indexing that is killed leaves the index as it was.

Shapes: N videos of the index, B of them, F frames, D embedding width.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tvr.models.gare import VideoFeatures
from tvr.search.model import SearchModel
from tvr.search.shards import (
    AGAIN,
    NOT_AS_WRITTEN,
    SHARD_NAME,
    VERSION,
    Contents,
    Damaged,
    Shard,
    Video,
    checksum,
    features_of,
    other_version,
    refuse_other_shapes,
    write_shard,
)
from tvr.search.upkeep import Live
from tvr.search.vectors import read_vectors, write_vectors
from tvr.utils.errors import UserError
from tvr.utils.files import replacing

MANIFEST = "manifest.json"
VECTORS_NAME = re.compile(r"vectors-(\d{6,})\.faiss")
PART_NAME = re.compile(
    r"\.(shard-\d{6,}\.safetensors|vectors-\d{6,}\.faiss|manifest\.json|unreadable\.csv)\.\d+\.part"
)


class NoIndex(UserError):
    """A folder without a manifest: nothing was finished there."""


@dataclass(frozen=True)
class Origin:
    """What an index was made with: the model by name or path and what it is, and the folder.

    Of the settings in force, `given` are those that the user gave, and a checkpoint may not carry.
    """

    model: str
    fingerprint: str
    settings: dict[str, Any]
    given: dict[str, Any]
    folder: str

    @classmethod
    def of(cls, model: SearchModel, folder: Path) -> Origin:
        """What an index of `folder` by `model` is made with."""
        return cls(
            model=model.name,
            fingerprint=model.fingerprint,
            settings=model.settings,
            given=model.given,
            folder=str(folder.absolute()),
        )


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`. A shard is [file name, its rows that do not count].

    The file holds a checksum of all this as well.
    """

    version: int
    made: str
    origin: Origin
    vectors: str
    vectors_bytes: int
    vectors_checksum: int
    shards: list[tuple[str, list[int]]]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the index in `folder`.

    Raises:
        NoIndex: there is none.
        Damaged: it is not what was written.
        UserError: it cannot be read, or is of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        if content["version"] == VERSION:
            if content.pop("checksum") != checksum(json.dumps(content).encode()):
                raise ValueError(NOT_AS_WRITTEN)
            shards = [(str(name), list(map(int, dead))) for name, dead in content["shards"]]
            origin = Origin(**content["origin"])
            return as_written(Manifest(**content | {"origin": origin, "shards": shards}))
    except FileNotFoundError as error:
        raise NoIndex(
            f"--index {folder}: no finished index there. Make one: python -m tvr.search index "
            f"--videos FOLDER --model MODEL --index {folder}"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Damaged(f"{path}: damaged. {AGAIN}.") from error
    raise other_version(path, content["version"])


def as_written(manifest: Manifest) -> Manifest:
    """The manifest again. Raises ValueError where it is none that `commit` writes.

    Its files are then in the folder of the index, whatever somebody wrote into it.
    """
    origin = manifest.origin
    texts = (manifest.made, origin.model, origin.fingerprint, origin.folder)
    names = [name for name, _ in manifest.shards]
    if not (
        all(isinstance(text, str) and "\0" not in text for text in texts)
        and isinstance(origin.settings, dict)
        and isinstance(origin.given, dict)
        and type(manifest.vectors_bytes) is int
        and isinstance(manifest.vectors, str)
        and VECTORS_NAME.fullmatch(manifest.vectors)
        and all(map(SHARD_NAME.fullmatch, names))
        # each is opened
        and len(set(names)) == len(names)
    ):
        raise ValueError("not as it was written")
    return manifest


def commit(folder: Path, origin: Origin, live: list[Live]) -> None:
    """Make these the index, and delete the files that no longer belong to it.

    Raises:
        LocalError: a file cannot be written; the index is then as it was.
    """
    live = [part for part in live if len(part)]
    vectors = folder / f"vectors-{next_number(folder, VECTORS_NAME):06d}.faiss"
    crc = write_vectors(vectors, [part.shard.mean_BD()[part.rows] for part in live])
    dead = [sorted(set(range(len(part.shard.videos))) - set(part.rows)) for part in live]
    names = [part.shard.path.name for part in live]
    manifest = Manifest(
        version=VERSION,
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        origin=origin,
        vectors=vectors.name,
        vectors_bytes=vectors.stat().st_size,
        vectors_checksum=crc,
        shards=list(zip(names, dead, strict=True)),
    )
    content = asdict(manifest)
    content["checksum"] = checksum(json.dumps(content).encode())
    with replacing(folder / MANIFEST) as file:
        file.write(json.dumps(content).encode())
    remove(folder, keep={vectors.name, *names})


def add_shard(folder: Path, fingerprint: str, contents: Contents) -> Shard:
    """Write the next shard of an index, and open it; it counts once `commit` names it.

    Raises:
        LocalError: it cannot be written.
    """
    path = folder / f"shard-{next_number(folder, SHARD_NAME):06d}.safetensors"
    write_shard(path, fingerprint, contents)
    return Shard(path)


def next_number(folder: Path, names: re.Pattern[str]) -> int:
    """One above the highest number among the files of this kind."""
    found = (names.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in found if match), default=-1) + 1


def remove(folder: Path, keep: set[str]) -> None:
    """Delete our own files that are not among `keep`, and what a killed process left half done."""
    for path in folder.iterdir():
        ours = any(names.fullmatch(path.name) for names in (SHARD_NAME, VECTORS_NAME, PART_NAME))
        if ours and path.name not in keep:
            path.unlink()


class Store:
    """An index that is open for reading. Its files stay readable when it is replaced meanwhile.

    `videos` has one record a row, `vectors` is the FAISS index over the rows.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        try:
            shards = [Shard(folder / name) for name, _ in manifest.shards]
        except Damaged as error:
            raise Damaged(f"{error}. {AGAIN}.") from error
        self._places: list[tuple[Shard, int]] = []
        for shard, (name, dead) in zip(shards, manifest.shards, strict=True):
            if shard.fingerprint != manifest.origin.fingerprint:
                raise UserError(
                    f"{folder / name}: belongs to another index. Move it out of the "
                    "folder and run the index command again, or make a new index, in another "
                    "folder."
                )
            rows = sorted(set(range(len(shard.videos))) - set(dead))
            self._places += [(shard, row) for row in rows]
        self.videos: list[Video] = [shard.videos[row] for shard, row in self._places]
        if not self.videos:
            raise Damaged(f"{folder}: an index of no videos. {AGAIN}.")
        refuse_other_shapes(shards)
        self.vectors = read_vectors(
            folder / manifest.vectors,
            manifest.vectors_bytes,
            manifest.vectors_checksum,
            len(self.videos),
            shards[0].shape[1],
        )

    @classmethod
    def open(cls, folder: Path) -> Store:
        """The index in `folder`.

        Raises:
            UserError: there is none, or its files are damaged or do not belong together.
        """
        while True:
            manifest = read_manifest(folder)
            try:
                return cls(folder, manifest)
            except UserError:
                # unless an indexing has just replaced it
                if read_manifest(folder) == manifest:
                    raise

    def features(self, rows: list[int]) -> VideoFeatures:
        """The features of these rows, copied from the disk."""
        return features_of([self._places[row] for row in rows])

    def preview(self, row: int) -> bytes:
        """The animated WebP of a row; IndexError if there is no such row."""
        if not 0 <= row < len(self._places):
            raise IndexError(f"row {row} of {len(self._places)}")
        shard, place = self._places[row]
        return shard.preview(place)
