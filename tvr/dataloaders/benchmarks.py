"""The registry of benchmarks, and the way from files to a split that can be used.

A new benchmark is one module with what `Reader` lists, and one line in `DATATYPES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tvr.dataloaders import activity, didemo, lsmdc, msrvtt, msvd, vatex
from tvr.dataloaders.records import AnnotatedSplit, Clip, Split
from tvr.dataloaders.videos import VideoIndex, find_videos
from tvr.utils.errors import UserError


class Reader(Protocol):
    """What a benchmark's module offers; the first protocol is the default."""

    PROTOCOLS: tuple[str, ...]
    VALIDATED_PROTOCOLS: tuple[str, ...]

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


def protocols(datatype: str) -> tuple[str, ...]:
    """The protocols of a benchmark, the default first."""
    return DATATYPES[datatype].PROTOCOLS


def has_validation(datatype: str, protocol: str) -> bool:
    """Whether the protocol has validation videos that are neither trained on nor tested."""
    return protocol in DATATYPES[datatype].VALIDATED_PROTOCOLS


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
) -> Split:
    """Read one split's annotations and find its videos.

    `split` is "train", "test", or "val" where `has_validation`. A clip without a file that is
    known to be broken in public copies of the benchmark is left out, named in `left_out`, and
    excused from the documented size; a file of it that cannot be played is to be deleted. With
    `allow_partial_gallery`, other clips of "val" and "test" without a file are left out and
    counted in `left_out`; such a training clip is always an error. Raises UserError for missing
    folders and files, malformed annotations, missing videos, and an evaluation gallery of another
    size than the documented one.
    """
    assert split in SPLITS, split
    assert split != "val" or has_validation(datatype, protocol), (datatype, protocol)
    check_folders(anno_path, video_path)
    annotated = DATATYPES[datatype].read_captions(anno_path, protocol, split)
    partial = allow_partial_gallery and split != "train"
    index = find_videos(video_path)
    paths = {video_id: index.get(video_id) for video_id in annotated.video_ids}
    _refuse_shared_files(paths)
    without = [video_id for video_id, path in paths.items() if path is None]
    excused = [video_id for video_id in without if video_id in annotated.known_broken]
    missing = [video_id for video_id in without if video_id not in annotated.known_broken]
    if (missing and not partial) or (without and len(without) == len(paths)):
        raise _missing_error(missing or excused, len(paths), split, video_path)
    left_out = annotated.left_out_counts()
    if excused:
        left_out[f"known broken videos without a file ({', '.join(excused)})"] = len(excused)
    if missing:
        left_out["videos without a file"] = len(missing)
    found = _split(f"{datatype} {protocol} {split}", annotated, paths, left_out, len(excused))
    found.notes = _several_files(found.clips, index)
    if split != "train" and not partial and not found.is_complete():
        raise UserError(
            f"{found.summary()}. The gallery has {len(found.clips):,} videos, documented are "
            f"{found.documented_videos:,}, so results would not compare. Use the published list "
            f"in --anno_path {anno_path}, or pass --allow_partial_gallery 1."
        )
    return found


def _split(
    name: str,
    annotated: AnnotatedSplit,
    paths: dict[str, Path | None],
    left_out: dict[str, int],
    excused_videos: int,
) -> Split:
    """The annotated clips that have a path, and their captions."""
    whole = (None, None)
    clips = [
        Clip(video_id, path, *annotated.segments.get(video_id, whole))
        for video_id, path in paths.items()
        if path is not None
    ]
    captions = [caption for caption in annotated.captions if paths[caption.video_id]]
    documented = annotated.documented_videos, annotated.documented_captions
    return Split(name, clips, captions, documented[0], left_out, documented[1], excused_videos)


def _refuse_shared_files(paths: dict[str, Path | None]) -> None:
    owners: dict[Path, str] = {}
    for video_id, path in paths.items():
        if path is not None and owners.setdefault(path, video_id) != video_id:
            raise UserError(
                f"{path}: it would be the video of {owners[path]} and of {video_id}. Name the "
                "files as the list names the videos, with v_ or without."
            )


def _several_files(clips: list[Clip], index: VideoIndex) -> dict[str, int]:
    several = [(clip.path, index.others(clip.video_id)) for clip in clips]
    several = [(path, others) for path, others in several if others]
    if not several:
        return {}
    used, (other, *_) = several[0]
    return {f"videos with several files ({used}, not {other})": len(several)}


def _missing_error(missing: list[str], total: int, split: str, video_path: Path) -> UserError:
    named = ", ".join(missing[:NAMED_IDS]) + (", ..." if len(missing) > NAMED_IDS else "")
    way_out = "Put the files below that folder (any common video extension)"
    if split != "train" and len(missing) < total:
        way_out += ", or pass --allow_partial_gallery 1 to evaluate without them"
    return UserError(
        f"--video_path {video_path}: {len(missing):,} of the {total:,} {split} videos have no file "
        f"there: {named}. {way_out}."
    )
