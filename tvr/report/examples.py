"""The examples of a report: captions and videos behind the ids of a ranking, with previews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tvr.dataloaders.benchmarks import DATATYPES
from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.records import Clip, Split
from tvr.dataloaders.videos import find_videos
from tvr.pages.pictures import data_address, preview, still_of
from tvr.rankings import Ranking
from tvr.report.folder import ReportedRun
from tvr.utils.errors import UserError

FRAMERATE, MOST_FRAMES = 3.0, 6
MOST_PIXELS = (128, 128)  # width, height of a preview


@dataclass(frozen=True)
class Data:
    """The captions' texts and the videos' clips by id; `trouble` says why there are none."""

    texts: Mapping[str, str]
    clips: Mapping[str, Clip]
    trouble: str = ""


def data_of(split: Split) -> Data:
    """What is behind the ids of a split."""
    texts = {caption.caption_id: caption.text for caption in split.captions}
    return Data(texts, {clip.video_id: clip for clip in split.clips})


def data_found(run: ReportedRun) -> Data:
    """The same of a run's test split, as far as its files are still there."""
    settings = run.settings
    try:
        annotated = DATATYPES[settings["datatype"]].read_captions(
            Path(settings["anno_path"]), run.protocol_name, "test"
        )
    except UserError as error:
        return Data({}, {}, f"The captions cannot be read any more: {error}")
    texts = {caption.caption_id: caption.text for caption in annotated.captions}
    try:
        index = find_videos(Path(settings["video_path"]))
    except UserError as error:
        return Data(texts, {}, f"The videos cannot be read any more: {error}")
    paths = {video_id: index.get(video_id) for video_id in annotated.places}
    clips = {name: annotated.clip(name, path) for name, path in paths.items() if path is not None}
    return Data(texts, clips)


@dataclass(frozen=True)
class Preview:
    """A video's moving and standing picture as addresses; both are empty where there is none."""

    moving: str = ""
    still: str = ""


@dataclass
class Previews:
    """Previews by video id, each made once."""

    clips: Mapping[str, Clip]
    frames: FrameSettings
    made: dict[str, Preview] = field(default_factory=dict)

    def of(self, video_id: str) -> Preview:
        """The video's preview, an empty one where it cannot be read."""
        if video_id not in self.made:
            self.made[video_id] = self._make(video_id)
        return self.made[video_id]

    def close(self) -> None:
        """End the process that decodes."""
        if self.frames.process is not None:
            self.frames.process.close()

    def _make(self, video_id: str) -> Preview:
        if video_id not in self.clips:
            return Preview()
        try:
            frames_FHWC = self.frames.decode(self.clips[video_id]).frames_FHWC
        except UserError:
            return Preview()
        moving = preview(frames_FHWC, MOST_FRAMES, MOST_PIXELS)
        return Preview(data_address(moving), data_address(still_of(moving)))


def previews(run: ReportedRun, data: Data) -> Previews:
    """Previews of the data's clips, decoded as the run decoded, within its limit of time."""
    decoder, timeout = run.settings["video_decoder"], run.settings["decode_timeout"]
    frames = FrameSettings(FRAMERATE, MOST_FRAMES, max(MOST_PIXELS), decoder)
    return Previews(data.clips, frames.limited(timeout))


@dataclass(frozen=True)
class Candidate:
    """What a query was compared with: the place, the id, the score, whether it is the right one.

    `text` is a caption's own.
    """

    place: int
    name: str
    score: float
    is_right: bool
    preview: Preview = Preview()
    text: str = ""


@dataclass(frozen=True)
class Example:
    """A query with its best candidates, and with the right one where it is not among them."""

    query: str
    rank: int
    candidates: list[Candidate]
    preview: Preview = Preview()
    text: str = ""


def text_to_video(ranking: Ranking, data: Data, made: Previews) -> Example:
    """A caption with videos."""
    videos = [
        Candidate(place, name, score, is_right, made.of(name))
        for place, name, score, is_right in candidates(ranking)
    ]
    text = data.texts.get(ranking.query, ranking.query)
    return Example(ranking.query, ranking.rank, videos, text=text)


def video_to_text(ranking: Ranking, data: Data, made: Previews) -> Example:
    """A video with captions."""
    captions = [
        Candidate(place, name, score, is_right, text=data.texts.get(name, name))
        for place, name, score, is_right in candidates(ranking)
    ]
    return Example(ranking.query, ranking.rank, captions, made.of(ranking.query))


def candidates(ranking: Ranking) -> list[tuple[int, str, float, bool]]:
    """Place, id, score, and whether it is the right one: of the best, then of the right one."""
    best = [
        (place, name, score, name == ranking.target)
        for place, (name, score) in enumerate(ranking.best, start=1)
    ]
    if any(is_right for *_, is_right in best):
        return best
    return [*best, (ranking.rank, ranking.target, ranking.score, True)]
