"""Look at one split of a benchmark: its annotations, its video files, and what is wrong there.

This is the data doctor without its command line, which is in `check.py`.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from tqdm import tqdm

from tvr.dataloaders.annotations import first_there
from tvr.dataloaders.benchmarks import DATATYPES, Source, assemble
from tvr.dataloaders.frames import opencv_capture, read_frames
from tvr.dataloaders.records import AnnotatedSplit, Clip
from tvr.dataloaders.videos import EXTENSIONS, VideoIndex
from tvr.utils.errors import UserError


@dataclass(frozen=True)
class Data(Source):
    """Which files are to be checked, and with which flags a run would use them.

    Without `decode`, only a video whose container states nothing is decoded. `workers` videos
    are looked at at a time.
    """

    decode: bool
    workers: int
    framerate: float
    max_frames: int
    video_decoder: str


@dataclass(frozen=True)
class Header:
    """What a video's container states; None where it does not."""

    seconds: float | None
    fps: float
    width: float
    height: float
    megabytes: float


@dataclass
class SplitReport:
    """What is found of one split. `refusal` is why a run would not accept it, if so.

    `files` maps the interchangeable names of each annotation file to the one that is read, if any,
    `others` a video to its further files, which are not used.
    """

    name: str
    files: dict[tuple[str, ...], Path | None]
    annotated: AnnotatedSplit | None = None
    refusal: str | None = None
    clips: list[Clip] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    others: dict[str, list[Path]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    headers: list[Header] = field(default_factory=list)

    def missing_files(self) -> list[str]:
        """The annotation files that are needed and not there."""
        return [" or ".join(names) for names, path in self.files.items() if path is None]

    def refusals(self) -> list[str]:
        """Every reason why a run with this split would end early."""
        reasons = [self.refusal] if self.refusal else []
        if self.unreadable:
            first = next(iter(self.unreadable.values()))
            reasons.append(
                f"{len(self.unreadable):,} of the {self.name} videos cannot be decoded: {first}"
            )
        return reasons


def examine(data: Data, name: str, index: VideoIndex) -> SplitReport:
    """Read one split as a run would, then look at each of its videos that is there.

    `index` is that of `data.video_path`, the same for every split: to walk a folder on a network
    disk takes long.
    """
    reader = DATATYPES[data.datatype]
    needed = reader.needed_files(data.protocol, name)
    report = SplitReport(name, {names: first_there(data.anno_path, names) for names in needed})
    try:
        report.annotated = reader.read_captions(data.anno_path, data.protocol, name)
        assemble(data, name, report.annotated, index)
    except UserError as error:
        report.refusal = str(error)
    if report.annotated is None:
        return report
    _find_clips(report, report.annotated, index)
    action = "decode" if data.decode else "look at"
    with ThreadPoolExecutor(data.workers) as pool:
        looked = pool.map(lambda clip: look_at(clip, data), report.clips)
        bar = tqdm(looked, f"{action} {name}", len(report.clips), leave=False, disable=None)
        try:
            for clip, (header, problem) in zip(report.clips, bar, strict=True):
                if header is not None:
                    report.headers.append(header)
                if problem is not None:
                    report.unreadable[clip.video_id] = problem
        except BaseException:
            # Otherwise Ctrl-C would wait for all the videos that are still queued
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return report


def _find_clips(report: SplitReport, annotated: AnnotatedSplit, index: VideoIndex) -> None:
    for video_id in annotated.video_ids:
        path = index.get(video_id)
        if path is None:
            report.missing.append(video_id)
            continue
        report.clips.append(annotated.clip(video_id, path))
        if others := index.others(video_id):
            report.others[video_id] = others


def look_at(clip: Clip, data: Data) -> tuple[Header | None, str | None]:
    """What the clip's file states, and why a run could not read it, as far as that is known.

    Without `decode`, only a file that states nothing is decoded, to know its reason.
    """
    header = read_header(clip.path)
    if header is not None and not data.decode:
        return header, None
    try:
        read_frames(
            clip.path, data.framerate, data.max_frames, clip.start, clip.end, data.video_decoder
        )
    except UserError as error:
        if not str(error).startswith(f"{clip.path}: "):
            # It is not about this file: the decoder is not installed
            raise
        return header, str(error)
    return header, None


def read_header(path: Path) -> Header | None:
    """The container's own fields, without decoding a frame; None if OpenCV cannot open it."""
    capture = opencv_capture(path)
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        if not capture.isOpened() or not 0 < fps < math.inf:
            return None
        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (capture.get(side) for side in sides)
    finally:
        capture.release()
    seconds = frames / fps if 0 < frames < math.inf else None
    return Header(seconds, fps, width, height, path.stat().st_size / 1e6)


def unannotated(index: VideoIndex, reports: list[SplitReport]) -> list[Path]:
    """The video files that no split uses; none if a split is unknown, as they may be its own."""
    if any(report.annotated is None for report in reports):
        return []
    used = {clip.path for report in reports for clip in report.clips}
    used |= {path for report in reports for other in report.others.values() for path in other}
    # Other files, a report of the compression for example, may lie there too
    videos = [
        path
        for path in index.files.values()
        if path.suffix.lower() in EXTENSIONS or path.name.endswith(".")
    ]
    return sorted(path for path in videos if path not in used)


def differences(report: SplitReport, anno_path: Path) -> list[tuple[str, str, str, str]]:
    """The rows of the CSV about one split."""
    annotated, name, folder = report.annotated, report.name, str(anno_path)
    if annotated is None:
        missing = [f"no annotation file {names}" for names in report.missing_files()]
        return [(name, "", folder, problem) for problem in missing or [str(report.refusal)]]
    rows = []
    for what, found, documented in (
        ("videos", len(annotated.video_ids), annotated.documented_videos),
        ("captions", len(annotated.captions), annotated.documented_captions),
    ):
        if documented not in (None, found):
            rows.append((name, "", folder, f"{found:,} {what}, documented are {documented:,}"))
    for reason, removed in annotated.left_out.items():
        rows += [(name, video_id, place, f"left out: {reason}") for video_id, place in removed]
    for video_id in report.missing:
        known = ", known to be broken" if video_id in annotated.known_broken else ""
        rows.append((name, video_id, annotated.places[video_id], f"no video file{known}"))
    paths = {clip.video_id: str(clip.path) for clip in report.clips}
    rows += [(name, video_id, paths[video_id], why) for video_id, why in report.unreadable.items()]
    for video_id, others in report.others.items():
        unused = f"not used: {paths[video_id]} is"
        rows += [(name, video_id, str(path), unused) for path in others]
    return rows
