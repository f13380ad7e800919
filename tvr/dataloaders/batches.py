"""What a loader hands over: the captions of a step with their clips, or clips alone.

Shapes: B captions, L tokens, U distinct clips, F = max_frames, N the real frames of all of them
together, C = 3 channels, H = W = R the encoder's resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from tvr.dataloaders.augment import Plan, apply
from tvr.dataloaders.incidents import Incident

Batch = TypeVar("Batch", bound="TensorBatch")


@dataclass
class TensorBatch:
    """What every batch can do: the tensors among its fields move together."""

    def to(self: Batch, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: Batch) -> Batch:
        """The batch in page-locked memory; called by the DataLoader."""
        return self._each(lambda tensor: tensor.pin_memory())

    def tensors(self) -> list[Tensor]:
        """The tensors among the fields, in their order."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    def _each(self: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
        values = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: change(tensor) for name, tensor in values.items()})


@dataclass
class PairBatch(TensorBatch):
    """Captions and their clips: each clip once, the real frames of all one after another.

    `mask_UF` is True where a clip has a frame, `frames_of_clip` how often that is, on the host.
    `clip_B` says which of the U clips is a caption's. `video_B` indexes the split's clips,
    `caption_B` its captions. Tokens and indices are int64, frames uint8. `augmentation` is what is
    still to be done to the frames of each clip, None where nothing is. `incidents` is what went
    wrong with videos meanwhile.
    """

    tokens_BL: Tensor
    frames_NCHW: Tensor
    mask_UF: Tensor
    clip_B: Tensor
    video_B: Tensor
    caption_B: Tensor
    frames_of_clip: list[int]
    augmentation: list[Plan] | None = None
    incidents: list[Incident] = field(default_factory=list)

    def augmented(self) -> PairBatch:
        """The batch with its augmentation carried out, where the batch is."""
        if self.augmentation is None:
            return self
        frames_NCHW = apply(self.frames_NCHW, self.augmentation, self.frames_of_clip)
        return replace(self, frames_NCHW=frames_NCHW, augmentation=None)

    def chunks(self, size: int) -> Iterator[PairBatch]:
        """Parts of at most `size` captions, and as many clips or fewer, but never without one.

        A part's clips are not those of its captions: `clip_B` says nothing there.
        """
        parts = min(-(-len(self.tokens_BL) // size), len(self.mask_UF))
        tokens = self.tokens_BL.tensor_split(parts)
        masks = self.mask_UF.tensor_split(parts)
        ends = list(accumulate(map(len, masks), initial=0))
        frames_of = [self.frames_of_clip[a:b] for a, b in pairwise(ends)]
        frames = self.frames_NCHW.split([sum(counts) for counts in frames_of])
        for part in zip(tokens, frames, masks, frames_of, strict=True):
            names = ("tokens_BL", "frames_NCHW", "mask_UF", "frames_of_clip")
            yield replace(self, **dict(zip(names, part, strict=True)))


@dataclass
class ClipBatch(TensorBatch):
    """Clips alone; fields as in `PairBatch`, one `video_B` a clip."""

    frames_NCHW: Tensor
    mask_UF: Tensor
    video_B: Tensor
    incidents: list[Incident] = field(default_factory=list)


def packed(clips: Sequence[Tensor], max_frames: int) -> tuple[Tensor, Tensor]:
    """frames_NCHW of all clips' frames_FCHW, and mask_UF."""
    count_U1 = torch.tensor([[len(clip)] for clip in clips])
    return torch.cat(list(clips)), torch.arange(max_frames) < count_U1


def trimmed(tokens_BL: Tensor) -> Tensor:
    """Without the columns behind the last end token, which has the highest id of all."""
    return tokens_BL[:, : int(tokens_BL.argmax(dim=1).max()) + 1]


def on_device(batches: Iterator[PairBatch], device: torch.device) -> Iterator[PairBatch]:
    """The batches on `device`, augmented; on a GPU beside the work that it already has to do."""
    if device.type != "cuda":
        yield from (batch.to(device).augmented() for batch in batches)
        return
    beside, main = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(beside):
            moved = batch.to(device, non_blocking=True).augmented()
        main.wait_stream(beside)
        for tensor in moved.tensors():
            # else its memory could be given away while the main stream still reads it
            tensor.record_stream(main)
        yield moved
