"""Data sets and loaders for training (captions with their clips) and evaluation (clips).

Shapes: F frames of a clip, C = 3 channels, H = W = R the encoder's resolution.

A batch may be a `UserError`, which `workers.checked` raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tvr.dataloaders.augment import Plan, RandAugment, apply
from tvr.dataloaders.batches import ClipBatch, PairBatch, TensorBatch, packed, trimmed
from tvr.dataloaders.cache_store import FrameCache, Fresh
from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.frames import read_with
from tvr.dataloaders.incidents import Incident
from tvr.dataloaders.reading import (
    Decoded,
    DecoderLost,
    Request,
    UnreadableVideo,
    read_with_either,
)
from tvr.dataloaders.records import Clip, Split
from tvr.dataloaders.sampler import Key
from tvr.dataloaders.transforms import clip_seed, resize_and_crop
from tvr.dataloaders.workers import init_worker
from tvr.utils.errors import UserError

Tell = Callable[[Incident], None]
REDRAWS = 10  # captions tried in place of one; if every tenth video is bad, all of them never are
REDRAW_SALT = 0x5EED  # a stream of its own beside the augmentation's


@dataclass(frozen=True)
class FrameSettings:
    """How clips become frames: frames per second, at most how many, side in pixels, decoder.

    With a cache, `read` decodes what is not in it; with a `process` that one decodes.
    """

    framerate: float
    max_frames: int
    resolution: int
    decoder: str
    cache: FrameCache | None = None
    process: DecoderProcess | None = None

    def limited(self, timeout: float) -> FrameSettings:
        """The same with a process that takes `timeout` seconds for a clip at most; 0: with none."""
        return replace(self, process=DecoderProcess(timeout) if timeout else None)

    def cached(self, folder: Path) -> FrameSettings:
        """The same with the cache in `folder`. Raises UserError, see `FrameCache`."""
        sampling = (self.framerate, self.max_frames, self.resolution, self.decoder)
        return replace(self, cache=FrameCache(folder, *sampling))

    def decode(self, clip: Clip) -> Decoded:
        """The clip's frames_FHWC, uint8, 1 <= F <= max_frames, in the size they have."""
        request = Request(clip.path, self.framerate, self.max_frames, clip.start, clip.end)
        read = read_with if self.process is None else self.process.read
        return read_with_either(request, self.decoder, read)

    def fit(self, frames_FHWC: np.ndarray) -> Tensor:
        """Decoded frames as frames_FCHW at the encoder's resolution."""
        return resize_and_crop(torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2), self.resolution)

    def read(self, clip: Clip, tell: Tell | None = None) -> Tensor:
        """The clip's frames_FCHW, uint8, 1 <= F <= max_frames, at the encoder's resolution.

        `tell` is called where the other decoder had to read the file.

        Raises:
            UnreadableVideo: no decoder can read it.
        """
        if self.cache is not None:
            return self.cache.read(clip, partial(self.fresh, tell=tell))
        return self.fresh(clip, tell).frames_FCHW

    def fresh(self, clip: Clip, tell: Tell | None = None) -> Fresh:
        """What `read` gives, from the video file itself."""
        decoded = self.decode(clip)
        problem = decoded.problem
        if problem is not None and tell is not None:
            tell(Incident(clip.path, str(problem), decoded.decoder, problem.lost))
        # the decoder asked for may read it the next time, and it may give other colours
        by_chance = str(problem) if isinstance(problem, DecoderLost) else None
        return Fresh(self.fit(decoded.frames_FHWC), by_chance)


Batch = TypeVar("Batch", bound=TensorBatch)


class PairDataset(Dataset[PairBatch | UserError]):
    """Batches of captions of `split` with their clips, each clip decoded once a batch.

    `tokenize` maps a list of n sentences to int64 (n, L). `randaugment` is timm's notation or None
    for no augmentation, which is decided by `Key` and `seed` alone; with `augment_later` it is
    drawn here but left to whoever takes the batch. `trim` cuts the tokens to the batch's longest
    caption.

    With `skip_unreadable` a caption whose video cannot be read is replaced by others of the split,
    decided by `Key` and `seed` alone. Each brings a clip of its own, whatever else the batch has of
    that video: so no process needs to know what another one could not read.
    """

    def __init__(
        self,
        split: Split,
        frames: FrameSettings,
        tokenize: Callable[[list[str]], Tensor],
        randaugment: str | None,
        seed: int,
        augment_later: bool = False,
        trim: bool = True,
        skip_unreadable: bool = False,
    ) -> None:
        self.split = split
        self._frames = frames
        self._tokenize = tokenize
        self._augment = None if randaugment is None else RandAugment(randaugment)
        self._seed = seed
        self._augment_later = augment_later
        self._trim = trim
        self._skip_unreadable = skip_unreadable
        # what was tried in this process: a decoder that hangs is to be waited for once
        self._unreadable: dict[int, str] = {}
        self.video_of_caption = split.video_of_caption()

    def __len__(self) -> int:
        return len(self.split.captions)

    def __getitems__(self, keys: list[Key]) -> PairBatch | UserError:
        """One batch; called by the DataLoader with what `RankSampler` yields."""
        # by video and by what decides its augmentation
        clips: dict[tuple[int, int], Tensor] = {}
        incidents: list[Incident] = []
        try:
            keys = [self._load(key, clips, incidents) for key in keys]
        except UserError as error:
            return error
        places = [(self.video_of_caption[key.caption], key.drawn_by) for key in keys]
        place_of = {place: i for i, place in enumerate(clips)}
        frames_NCHW, mask_UF = packed(list(clips.values()), self._frames.max_frames)
        frames_of_clip = [len(clip) for clip in clips.values()]
        key_of = dict(zip(places, keys, strict=True))
        plans = self._draw(key_of[place] for place in clips)
        if plans is not None and not self._augment_later:
            frames_NCHW, plans = apply(frames_NCHW, plans, frames_of_clip), None
        tokens_BL = self._tokenize([self.split.captions[key.caption].text for key in keys])
        return PairBatch(
            tokens_BL=trimmed(tokens_BL) if self._trim else tokens_BL,
            frames_NCHW=frames_NCHW,
            mask_UF=mask_UF,
            clip_B=torch.tensor([place_of[place] for place in places]),
            video_B=torch.tensor([video for video, _ in places]),
            caption_B=torch.tensor([key.caption for key in keys]),
            frames_of_clip=frames_of_clip,
            augmentation=plans,
            incidents=incidents,
        )

    def _load(
        self, key: Key, clips: dict[tuple[int, int], Tensor], incidents: list[Incident]
    ) -> Key:
        """Put the clip of `key` among the clips; returns `key`, or the one in its place."""
        for candidate in self._candidates(key):
            video = self.video_of_caption[candidate.caption]
            place = video, candidate.drawn_by
            if place in clips:
                return candidate
            clip, lost = self.split.clips[video], 0
            if video not in self._unreadable:
                try:
                    clips[place] = self._frames.read(clip, incidents.append)
                    return candidate
                except UnreadableVideo as error:
                    self._unreadable[video], lost = str(error), error.lost
            problem = self._unreadable[video]
            if not self._skip_unreadable:
                raise UserError(f"{problem} With --on_bad_video skip, training does without it.")
            incidents.append(Incident(clip.path, problem, lost=lost))
        raise UserError(
            f"--on_bad_video skip: a caption's video cannot be read, nor those of {REDRAWS} others "
            f"drawn in its place. Check --video_path. The last: {problem}"
        )

    def _candidates(self, key: Key) -> Iterator[Key]:
        """The key, and those that take its place one after another."""
        yield key
        generator = np.random.default_rng([REDRAW_SALT, self._seed, key.epoch, key.caption])
        for caption in generator.integers(len(self.split.captions), size=REDRAWS).tolist():
            yield Key(key.epoch, caption, key.caption)

    def _draw(self, keys: Iterable[Key]) -> list[Plan] | None:
        """How the clips of these keys are to be augmented."""
        if self._augment is None:
            return None
        seeds = (clip_seed(self._seed, key.epoch, key.drawn_by) for key in keys)
        return [self._augment.draw(seed) for seed in seeds]


class ClipDataset(Dataset[ClipBatch | UserError]):
    """Batches of clips of `split`, without augmentation."""

    def __init__(self, split: Split, frames: FrameSettings) -> None:
        self.split = split
        self._frames = frames

    def __len__(self) -> int:
        return len(self.split.clips)

    def __getitems__(self, indices: list[int]) -> ClipBatch | UserError:
        """One batch, of the clips with these places in the split; each has to be readable."""
        incidents: list[Incident] = []
        try:
            clips = [self._frames.read(self.split.clips[i], incidents.append) for i in indices]
        except UserError as error:
            return error
        return ClipBatch(*packed(clips, self._frames.max_frames), torch.tensor(indices), incidents)


def pair_loader(
    dataset: PairDataset, sampler: Iterable[list[Key]], workers: int, pin_memory: bool
) -> DataLoader[PairBatch | UserError]:
    """The batches of `sampler`, all its epochs after one another; iterate it through `checked`.

    One loader for the whole training: its workers stay, and go on while an epoch is evaluated.
    """
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=init_worker,
        # without one of its own, the loader would draw from the global generator
        generator=torch.Generator().manual_seed(0),
    )


def clip_loader(
    dataset: ClipDataset, batches: list[list[int]], workers: int, pin_memory: bool
) -> DataLoader[ClipBatch | UserError]:
    """The given batches of clip indices, in their order; iterate it through `checked`."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=init_worker,
        generator=torch.Generator().manual_seed(0),
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch
