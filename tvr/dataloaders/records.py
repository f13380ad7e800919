"""What every benchmark reader produces: clips, captions, and a split that ties them together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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


@dataclass
class Split:
    """The clips and captions of one split, and an account of what was left out.

    `documented_videos` is the size the benchmark documents for this split (None where no such
    number exists); `left_out` maps a reason to how many rows it removed.
    """

    name: str
    clips: list[Clip]
    captions: list[Caption]
    documented_videos: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {clip.video_id for clip in self.clips}
        assert len(known) == len(self.clips), f"{self.name}: a video id occurs twice"
        assert all(caption.video_id in known for caption in self.captions), self.name

    def video_of_caption(self) -> list[int]:
        """For each caption the index of its clip in `clips`."""
        index = {clip.video_id: i for i, clip in enumerate(self.clips)}
        return [index[caption.video_id] for caption in self.captions]

    def is_complete(self) -> bool:
        """Whether the gallery has the documented size."""
        return self.documented_videos is None or len(self.clips) == self.documented_videos

    def summary(self) -> str:
        """One line for the log: what is used, what was left out and why."""
        documented = "" if self.documented_videos is None else f" of {self.documented_videos:,}"
        line = (
            f"{self.name}: {len(self.clips):,}{documented} videos, {len(self.captions):,} captions"
        )
        if self.left_out:
            line += "; left out: " + ", ".join(f"{n:,} {why}" for why, n in self.left_out.items())
        return line


@dataclass(frozen=True)
class AnnotatedSplit:
    """What a reader finds in the annotation files alone, before any video is looked for.

    `video_ids` are unique and in the order of the list file; every caption's `video_id` is one
    of them. `documented_videos` as in `Split`.
    """

    video_ids: list[str]
    captions: list[Caption]
    documented_videos: int | None = None
