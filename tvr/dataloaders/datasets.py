"""Data sets and loaders for training (captions with their clips) and evaluation (clips).

Shapes: F frames of a clip, C = 3 channels, H = W = R the encoder's resolution.

A batch may be a `UserError`, which `workers.checked` raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tvr.dataloaders.augment import Plan, RandAugment, apply
from tvr.dataloaders.batches import ClipBatch, PairBatch, TensorBatch, packed, trimmed
from tvr.dataloaders.cache_store import FrameCache
from tvr.dataloaders.frames import read_frames
from tvr.dataloaders.records import Clip, Split
from tvr.dataloaders.sampler import Key, RankSampler
from tvr.dataloaders.transforms import clip_seed, resize_and_crop
from tvr.dataloaders.workers import init_worker
from tvr.utils.errors import UserError


@dataclass(frozen=True)
class FrameSettings:
    """How clips become frames: frames per second, at most how many, side in pixels, decoder.

    With a cache, `read` decodes what is not in it.
    """

    framerate: float
    max_frames: int
    resolution: int
    decoder: str
    cache: FrameCache | None = None

    def cached(self, folder: Path) -> FrameSettings:
        """The same with the cache in `folder`. Raises UserError, see `FrameCache`."""
        sampling = (self.framerate, self.max_frames, self.resolution, self.decoder)
        return replace(self, cache=FrameCache(folder, *sampling))

    def decode(self, clip: Clip) -> np.ndarray:
        """The clip's frames_FHWC, uint8, 1 <= F <= max_frames, in the size they have."""
        return read_frames(
            clip.path, self.framerate, self.max_frames, clip.start, clip.end, self.decoder
        )

    def fit(self, frames_FHWC: np.ndarray) -> Tensor:
        """Decoded frames as frames_FCHW at the encoder's resolution."""
        return resize_and_crop(torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2), self.resolution)

    def read(self, clip: Clip) -> Tensor:
        """The clip's frames_FCHW, uint8, 1 <= F <= max_frames, at the encoder's resolution."""
        if self.cache is not None:
            return self.cache.read(clip, self.decode_and_fit)
        return self.decode_and_fit(clip)

    def decode_and_fit(self, clip: Clip) -> Tensor:
        """What `read` gives, from the video file itself."""
        return self.fit(self.decode(clip))


Batch = TypeVar("Batch", bound=TensorBatch)


class PairDataset(Dataset[PairBatch | UserError]):
    """Batches of captions of `split` with their clips, each clip decoded once a batch.

    `tokenize` maps a list of n sentences to int64 (n, L). `randaugment` is timm's notation or None
    for no augmentation, which is decided by `Key` and `seed` alone; with `augment_later` it is
    drawn here but left to whoever takes the batch. `trim` cuts the tokens to the batch's longest
    caption.
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
    ) -> None:
        self.split = split
        self._frames = frames
        self._tokenize = tokenize
        self._augment = None if randaugment is None else RandAugment(randaugment)
        self._seed = seed
        self._augment_later = augment_later
        self._trim = trim
        self.video_of_caption = split.video_of_caption()

    def __len__(self) -> int:
        return len(self.split.captions)

    def __getitems__(self, keys: list[Key]) -> PairBatch | UserError:
        """One batch; called by the DataLoader with what `RankSampler` yields."""
        video_B = [self.video_of_caption[key.caption] for key in keys]
        key_of = dict(zip(video_B, keys, strict=True))
        place_of = {video: place for place, video in enumerate(key_of)}
        try:
            clips = [self._frames.read(self.split.clips[video]) for video in key_of]
        except UserError as error:
            return error
        frames_NCHW, mask_UF = packed(clips, self._frames.max_frames)
        frames_of_clip = [len(clip) for clip in clips]
        plans = self._draw(key_of.values())
        if plans is not None and not self._augment_later:
            frames_NCHW, plans = apply(frames_NCHW, plans, frames_of_clip), None
        tokens_BL = self._tokenize([self.split.captions[key.caption].text for key in keys])
        return PairBatch(
            tokens_BL=trimmed(tokens_BL) if self._trim else tokens_BL,
            frames_NCHW=frames_NCHW,
            mask_UF=mask_UF,
            clip_B=torch.tensor([place_of[video] for video in video_B]),
            video_B=torch.tensor(video_B),
            caption_B=torch.tensor([key.caption for key in keys]),
            frames_of_clip=frames_of_clip,
            augmentation=plans,
        )

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
        """One batch, of the clips with these places in the split."""
        try:
            clips = [self._frames.read(self.split.clips[index]) for index in indices]
        except UserError as error:
            return error
        return ClipBatch(*packed(clips, self._frames.max_frames), torch.tensor(indices))


def pair_loader(
    dataset: PairDataset, sampler: RankSampler, workers: int, pin_memory: bool
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
