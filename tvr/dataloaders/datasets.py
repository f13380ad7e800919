"""Items, batches and loaders for training (one item a caption) and evaluation (one a clip).

Shapes: B items, L tokens, F = max_frames, C = 3 channels, H = W = R the encoder's resolution.

An item may be a `UserError`, and a batch with one is that error, which `workers.checked` raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tvr.dataloaders.frames import read_frames
from tvr.dataloaders.records import Clip, Split
from tvr.dataloaders.sampler import RankSampler
from tvr.dataloaders.transforms import RandAugment, clip_seed, resize_and_crop
from tvr.dataloaders.workers import init_worker
from tvr.utils.errors import UserError


@dataclass(frozen=True)
class FrameSettings:
    """How clips become frames: frames per second, at most how many, side in pixels, decoder."""

    framerate: float
    max_frames: int
    resolution: int
    decoder: str

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
        return self.fit(self.decode(clip))

    def pad(self, frames_FCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Zero frames up to max_frames, and the mask_F that is True for the real ones."""
        n = len(frames_FCHW)
        padded_FCHW = frames_FCHW.new_zeros((self.max_frames, *frames_FCHW.shape[1:]))
        padded_FCHW[:n] = frames_FCHW
        return padded_FCHW, torch.arange(self.max_frames) < n


Batch = TypeVar("Batch", bound="TensorBatch")


class TensorBatch:
    """What every batch can do: its fields, all tensors, move together."""

    def to(self: Batch, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on `device`."""
        moved = (tensor.to(device, non_blocking=non_blocking) for tensor in vars(self).values())
        return type(self)(*moved)

    def pin_memory(self: Batch) -> Batch:
        """The batch in page-locked memory; called by the DataLoader."""
        return type(self)(*(tensor.pin_memory() for tensor in vars(self).values()))


@dataclass
class PairBatch(TensorBatch):
    """Captions with their clips; `frames_BFCHW` is zero where `frame_mask_BF` is False.

    `video_B` indexes the split's clips (equal where one video occurs twice), `caption_B` its
    captions; tokens and indices are int64, frames uint8, the mask bool.
    """

    tokens_BL: Tensor
    frames_BFCHW: Tensor
    frame_mask_BF: Tensor
    video_B: Tensor
    caption_B: Tensor


@dataclass
class ClipBatch(TensorBatch):
    """Clips alone; fields as in `PairBatch`."""

    frames_BFCHW: Tensor
    frame_mask_BF: Tensor
    video_B: Tensor


# the values of one item, in the order of its batch's fields
Item = tuple[Tensor, ...]


class PairDataset(Dataset[Item | UserError]):
    """One item per caption of `split`: its tokens and its clip's frames.

    `tokenize` maps a list of n sentences to int64 (n, L). `randaugment` is timm's notation or
    None for no augmentation, which is decided by (seed, epoch, index) alone.
    """

    def __init__(
        self,
        split: Split,
        frames: FrameSettings,
        tokenize: Callable[[list[str]], Tensor],
        randaugment: str | None,
        seed: int,
    ) -> None:
        self.split = split
        self._frames = frames
        self._tokenize = tokenize
        self._augment = None if randaugment is None else RandAugment(randaugment)
        self._seed = seed
        self._video_of_caption = split.video_of_caption()

    def __len__(self) -> int:
        return len(self.split.captions)

    def __getitem__(self, key: tuple[int, int]) -> Item | UserError:
        """Item `index` as it is in `epoch`, for key = (epoch, index)."""
        epoch, index = key
        video = self._video_of_caption[index]
        try:
            frames_FCHW = self._frames.read(self.split.clips[video])
        except UserError as error:
            return error
        if self._augment is not None:
            frames_FCHW = self._augment(frames_FCHW, clip_seed(self._seed, epoch, index))
        tokens_L = self._tokenize([self.split.captions[index].text])[0]
        padded_FCHW, mask_F = self._frames.pad(frames_FCHW)
        return tokens_L, padded_FCHW, mask_F, torch.tensor(video), torch.tensor(index)


class ClipDataset(Dataset[Item | UserError]):
    """One item per clip of `split`, without augmentation."""

    def __init__(self, split: Split, frames: FrameSettings) -> None:
        self.split = split
        self._frames = frames

    def __len__(self) -> int:
        return len(self.split.clips)

    def __getitem__(self, index: int) -> Item | UserError:
        try:
            frames_FCHW = self._frames.read(self.split.clips[index])
        except UserError as error:
            return error
        return *self._frames.pad(frames_FCHW), torch.tensor(index)


def train_loader(
    dataset: PairDataset,
    batch_size_per_rank: int,
    rank: int,
    world_size: int,
    seed: int,
    epoch: int,
    workers: int,
    pin_memory: bool,
) -> DataLoader[PairBatch | UserError]:
    """One epoch of this rank's batches; iterate it through `checked`.

    Raises UserError if the captions do not fill one batch over all ranks.
    """
    sampler = RankSampler(len(dataset), batch_size_per_rank, rank, world_size, seed, epoch)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=_collate_pairs,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=init_worker,
        generator=torch.Generator().manual_seed(seed),
    )


def clip_loader(
    dataset: ClipDataset, batches: list[list[int]], workers: int, pin_memory: bool
) -> DataLoader[ClipBatch | UserError]:
    """The given batches of clip indices, in their order; iterate it through `checked`."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_collate_clips,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=init_worker,
        # without one of its own, the loader would draw from the global generator
        generator=torch.Generator().manual_seed(0),
    )


def _collate_pairs(items: list[Item | UserError]) -> PairBatch | UserError:
    stacked = _stack(items)
    return stacked if isinstance(stacked, UserError) else PairBatch(*stacked)


def _collate_clips(items: list[Item | UserError]) -> ClipBatch | UserError:
    stacked = _stack(items)
    return stacked if isinstance(stacked, UserError) else ClipBatch(*stacked)


def _stack(items: list[Item | UserError]) -> list[Tensor] | UserError:
    """Each field of the items stacked, or the first error among them."""
    good: list[Item] = []
    for item in items:
        if isinstance(item, UserError):
            return item
        good.append(item)
    return [torch.stack(field) for field in zip(*good, strict=True)]
