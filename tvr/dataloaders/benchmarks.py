"""The registry of benchmarks, and the way from files to a split that can be used.

A new benchmark is one module with what `Reader` lists, and one line in `DATATYPES`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tvr.dataloaders import activity, didemo, lsmdc, msrvtt, msvd, vatex
from tvr.dataloaders.records import AnnotatedSplit, Clip, Split
from tvr.dataloaders.videos import VideoIndex, find_videos
from tvr.utils.errors import UserError


class Reader(Protocol):
    """What a benchmark's module offers; the first protocol is the default."""

    @property
    def PROTOCOLS(self) -> tuple[str, ...]: ...

    @property
    def VALIDATED_PROTOCOLS(self) -> tuple[str, ...]: ...

    def needed_files(self, protocol: str, split: str) -> list[tuple[str, ...]]:
        """The annotation files of one split: of each group, the first one there is read."""
        ...

    def read_captions(self, anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
        """Read one split from the annotation folder; UserError names file and row."""
        ...


DATATYPES: dict[str, Reader] = {
    "msrvtt": msrvtt,
    "msvd": msvd,
    "lsmdc": lsmdc,
    "didemo": didemo,
    "activity": activity,
    "activitynet": activity,
    "vatex": vatex,
}

SPLITS = ("train", "val", "test")
NAMED_IDS = 10


@dataclass(frozen=True)
class Source:
    """Where a run finds its data, and whether its splits may lack videos."""

    datatype: str
    protocol: str
    anno_path: Path
    video_path: Path
    allow_partial_gallery: bool
    allow_partial_training: bool


def protocols(datatype: str) -> tuple[str, ...]:
    """The protocols of a benchmark, the default first."""
    return DATATYPES[datatype].PROTOCOLS


def has_validation(datatype: str, protocol: str) -> bool:
    """Whether the protocol has validation videos that are neither trained on nor tested."""
    return protocol in DATATYPES[datatype].VALIDATED_PROTOCOLS


def first_few(names: list[str]) -> str:
    """The first `NAMED_IDS` of the names, for a message."""
    return ", ".join(names[:NAMED_IDS]) + (", ..." if len(names) > NAMED_IDS else "")


def check_folders(anno_path: Path, video_path: Path) -> None:
    """Raises UserError, naming the flag, if one of the two is not a folder."""
    for flag, folder in (("--anno_path", anno_path), ("--video_path", video_path)):
        if not folder.is_dir():
            seen = "is not a folder" if folder.exists() else "does not exist"
            raise UserError(f"{flag} {folder}: {seen}. Name the folder with the files.")


def load_split(
    datatype: str,
    protocol: str,
    split: str,
    anno_path: Path,
    video_path: Path,
    allow_partial_gallery: bool = False,
    allow_partial_training: bool = False,
) -> Split:
    """Read one split's annotations and find its videos, as `assemble` says.

    `split` is "train", "test", or "val" where `has_validation`. Raises UserError for missing
    folders and files, malformed annotations, and as `assemble`.
    """
    assert split in SPLITS, split
    assert split != "val" or has_validation(datatype, protocol), (datatype, protocol)
    check_folders(anno_path, video_path)
    source = Source(
        datatype, protocol, anno_path, video_path, allow_partial_gallery, allow_partial_training
    )
    annotated = DATATYPES[datatype].read_captions(anno_path, protocol, split)
    return assemble(source, split, annotated, find_videos(video_path))


def assemble(source: Source, split: str, annotated: AnnotatedSplit, index: VideoIndex) -> Split:
    """The split of these annotations and of the videos in the index of `source.video_path`.

    A clip without a file that is known to be broken in public copies of the benchmark is left
    out, named in `left_out`, and excused from the documented size; a file of it that cannot be
    played is to be deleted. Other clips without a file are left out and counted in `left_out`
    only with `allow_partial_gallery` ("val" and "test") or `allow_partial_training`. Raises
    UserError for missing videos, a file of two videos, and an evaluation gallery with another
    number of videos or captions than documented.
    """
    partial = source.allow_partial_training if split == "train" else source.allow_partial_gallery
    paths = {video_id: index.get(video_id) for video_id in annotated.places}
    _refuse_shared_files(paths)
    without = [video_id for video_id, path in paths.items() if path is None]
    missing = [video_id for video_id in without if video_id not in annotated.known_broken]
    if (missing and not partial) or (without and len(without) == len(paths)):
        raise _missing_error(source, split, annotated, missing or without)
    found = _split(f"{source.datatype} {source.protocol} {split}", annotated, paths, index)
    if split != "train" and not partial and not found.is_complete():
        raise UserError(
            f"{found.summary()}. The gallery has {'; '.join(found.differences())}: results would "
            f"not compare. Use the published files in --anno_path {source.anno_path}, or pass "
            "--allow_partial_gallery 1."
        )
    return found


def _doctor_command(source: Source) -> str:
    """The command line that lists every missing video in a file."""
    folders = ("--anno_path", str(source.anno_path), "--video_path", str(source.video_path))
    kind = ("--datatype", source.datatype, "--protocol", source.protocol)
    command = ("python", "-m", "tvr.dataloaders.check", *kind, *folders, "--csv", "missing.csv")
    return shlex.join(command)


def _split(
    name: str, annotated: AnnotatedSplit, paths: dict[str, Path | None], index: VideoIndex
) -> Split:
    """The annotated clips that have a path, and their captions."""
    clips = [annotated.clip(video_id, path) for video_id, path in paths.items() if path is not None]
    without = {video_id for video_id, path in paths.items() if path is None}
    excused = sorted(without & annotated.known_broken)
    left_out = annotated.left_out_counts()
    if excused:
        left_out[f"known broken videos without a file ({', '.join(excused)})"] = len(excused)
    if len(without) > len(excused):
        left_out["videos without a file"] = len(without) - len(excused)
    unseen = sum(caption.video_id in excused for caption in annotated.captions)
    return Split(
        name,
        clips,
        [caption for caption in annotated.captions if caption.video_id not in without],
        annotated.documented_videos,
        left_out,
        annotated.documented_captions,
        annotated.excused_videos + len(excused),
        annotated.excused_captions + unseen,
        _several_files(clips, index),
    )


def _refuse_shared_files(paths: dict[str, Path | None]) -> None:
    owners: dict[Path, str] = {}
    for video_id, path in paths.items():
        if path is not None and owners.setdefault(path, video_id) != video_id:
            raise UserError(
                f"{path}: it would be the video of {owners[path]} and of {video_id}. Name the "
                "files as the list names the videos, with v_ or without."
            )


def _several_files(clips: list[Clip], index: VideoIndex) -> dict[str, int]:
    several = [clip for clip in clips if index.others(clip.video_id)]
    if not several:
        return {}
    used, other = several[0].path, index.others(several[0].video_id)[0]
    return {f"videos with several files ({used}, not {other})": len(several)}


def _missing_error(
    source: Source, split: str, annotated: AnnotatedSplit, missing: list[str]
) -> UserError:
    places = annotated.places
    way_out = "Put the files below that folder (any common video extension)"
    if len(missing) < len(places):
        flag = "--allow_partial_training" if split == "train" else "--allow_partial_gallery"
        action = "train" if split == "train" else "evaluate"
        way_out += f", or pass {flag} 1 to {action} without them"
    return UserError(
        f"--video_path {source.video_path}: {len(missing):,} of the {len(places):,} {split} videos "
        f"have no file there: {first_few(missing)} (first: {places[missing[0]]}). {way_out}. "
        f"All are listed by: {_doctor_command(source)}"
    )
