"""What every benchmark reader produces: clips, captions, and a split that ties them together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LONG_CAPTION = 1_000


@dataclass(frozen=True)
class Clip:
    """One gallery entry. `start` and `end` are seconds; None means the whole file."""

    video_id: str
    path: Path
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Caption:
    """One sentence (or joined paragraph) that describes one clip."""

    caption_id: str
    video_id: str
    text: str


class LeftOut(NamedTuple):
    """A video or one of its captions that is not used, and where the files have it, if anywhere."""

    video_id: str
    place: str = ""


@dataclass
class Split:
    """The clips and captions of one split, and an account of what was left out.

    `documented_videos` and `documented_captions` are the sizes the benchmark documents for this
    split (None where no such number exists); `left_out` maps a reason to how many rows it removed.
    `excused_videos` and `excused_captions` of the documented ones may be missing: those of videos
    known to be broken, named in `left_out`, and captions that are counted there but empty. `notes`
    counts what is used but a user may want to look at.
    """

    name: str
    clips: list[Clip]
    captions: list[Caption]
    documented_videos: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    documented_captions: int | None = None
    excused_videos: int = 0
    excused_captions: int = 0
    notes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {clip.video_id for clip in self.clips}
        assert len(known) == len(self.clips), f"{self.name}: a video id occurs twice"
        assert all(caption.video_id in known for caption in self.captions), self.name

    def video_of_caption(self) -> list[int]:
        """For each caption the index of its clip in `clips`."""
        index = {clip.video_id: i for i, clip in enumerate(self.clips)}
        return [index[caption.video_id] for caption in self.captions]

    def fingerprint(self) -> str:
        """A fingerprint of the captions, in their order, and of which clips they have."""
        found = hashlib.sha256()
        for caption in self.captions:
            found.update(f"{caption.video_id}\0{caption.text}\0".encode(errors="surrogateescape"))
        return found.hexdigest()[:16]

    def differences(self) -> list[str]:
        """How many videos and captions there are, for those that are not as many as documented."""
        counts = (
            ("videos", len(self.clips), self.excused_videos, self.documented_videos),
            ("captions", len(self.captions), self.excused_captions, self.documented_captions),
        )
        return [
            f"{found:,} {what}"
            + (f" and {excused:,} excused" if excused else "")
            + f", documented are {documented:,}"
            for what, found, excused, documented in counts
            if documented is not None and found + excused != documented
        ]

    def is_complete(self) -> bool:
        """Whether it has the documented videos and captions, less those that are excused."""
        return not self.differences()

    def oddities(self) -> dict[str, int]:
        """`notes`, and captions that are used as they are but may be worth a look."""
        texts = [caption.text for caption in self.captions]
        found = {
            **self.notes,
            "captions without a letter or digit": sum(not any(map(str.isalnum, t)) for t in texts),
            f"captions of over {LONG_CAPTION:,} characters": sum(
                len(t) > LONG_CAPTION for t in texts
            ),
        }
        return {what: n for what, n in found.items() if n}

    def summary(self) -> str:
        """One line for the log: what is used, what was left out and why, and what is odd."""
        documented = "" if self.documented_videos is None else f" of {self.documented_videos:,}"
        line = (
            f"{self.name}: {len(self.clips):,}{documented} videos, {len(self.captions):,} captions"
        )
        if self.documented_captions not in (None, len(self.captions)):
            line += f" (documented: {self.documented_captions:,})"
        for what, counts in (("left out", self.left_out), ("used as is", self.oddities())):
            if counts:
                line += f"; {what}: " + ", ".join(f"{n:,} {why}" for why, n in counts.items())
        return line


@dataclass(frozen=True)
class AnnotatedSplit:
    """What a reader finds in the annotation files alone, before any video is looked for.

    `places` maps the video ids, in the order of the list file, to where they are listed; every
    caption's `video_id` is one of them. The documented and the excused numbers are as in `Split`.
    `left_out` maps a reason to what it removed, `segments` a video id to (start, end) seconds;
    other videos are used whole.
    The videos of `known_broken` are unreadable in the copies of the benchmark that people have:
    only if such a video has no file, it is left out without further ado. `rows` says how many rows
    or entries each file has, by its name.
    """

    places: Mapping[str, str]
    captions: list[Caption]
    documented_videos: int | None = None
    documented_captions: int | None = None
    excused_videos: int = 0
    excused_captions: int = 0
    left_out: Mapping[str, Sequence[LeftOut]] = field(default_factory=dict)
    segments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    known_broken: frozenset[str] = frozenset()
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def video_ids(self) -> list[str]:
        """The videos, in the order of the list file."""
        return list(self.places)

    def clip(self, video_id: str, path: Path) -> Clip:
        """The video as a clip of its file: the segment, or the whole file where there is none."""
        return Clip(video_id, path, *self.segments.get(video_id, (None, None)))

    def left_out_counts(self) -> dict[str, int]:
        """How much each reason removed; reasons that removed nothing are not there."""
        return {reason: len(removed) for reason, removed in self.left_out.items() if removed}
