"""RandAugment for the frames of many clips at once: drawn by timm, applied to tensors.

A clip's plan is drawn where its frames are read, and applied there or, for whole batches, on a GPU.
Shapes: N frames of all clips together, C = 3 channels, H = W = R the encoder's resolution.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL.Image import Resampling
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from tvr.dataloaders.augment_geo import WARPS
from tvr.dataloaders.augment_ops import OPERATIONS
from tvr.utils.errors import UserError

RAND_AUGMENT = "rand-m7-n4-mstd0.5-inc1"

# bounds an operation's memory on a GPU to half a gigabyte
PIXELS_AT_ONCE = 2**21
# on a CPU, frames whose intermediate values stay in its cache
FRAMES_IN_CACHE = 2


class Step(NamedTuple):
    """One operation of a plan.

    `operation` is the name of timm's function, `argument` its argument (0 if it has none), `taps`
    how many pixels it interpolates between along an axis (0 if it does not).
    """

    operation: str
    argument: float
    taps: int


# small and picklable: it travels from a loader's worker to the main process
Plan = tuple[Step, ...]


class RandAugment:
    """timm's RandAugment with one random draw for all frames of a clip.

    `config` is timm's notation: m7 magnitude, n4 operations drawn with replacement, mstd0.5 the
    magnitude's standard deviation, inc1 severity grows with magnitude; each operation is applied
    with probability 0.5. Raises UserError for a config that timm does not understand, or with an
    operation that is not written for tensors.
    """

    def __init__(self, config: str) -> None:
        try:
            self._transform = rand_augment_transform(config, hparams={})
        except (AssertionError, ValueError, KeyError) as error:
            raise UserError(
                f"RandAugment {config!r}: timm does not understand it ({error}). "
                f"Use for example {RAND_AUGMENT}."
            ) from error
        for op in self._transform.ops:
            function = op.aug_fn.__name__
            if function not in OPERATIONS and function not in WARPS:
                raise UserError(
                    f"RandAugment {config!r}: timm's operation {op.name} is not written for "
                    f"tensors. Use for example {RAND_AUGMENT}."
                )
            # timm hands an image from operation to operation; here, a plan that grows
            op.aug_fn = partial(_record, function)

    def draw(self, seed: int) -> Plan:
        """What timm does to an image, as (config, seed) decide; 0 <= seed < 2**32."""
        with _global_generators_at(seed):
            return self._transform(())


def _record(operation: str, plan: Plan, *argument: float, resample: Any, **_: Any) -> Plan:
    """The plan with one more step. Draws what timm's function of that name draws."""
    taps = 0
    if operation in WARPS:
        taps = 4 if random.choice(resample) == Resampling.BICUBIC else 2
    return *plan, Step(operation, float(*argument), taps)


@contextmanager
def _global_generators_at(seed: int) -> Iterator[None]:
    # timm draws from the global generators
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def apply(frames_NCHW: Tensor, plans: Sequence[Plan], frames_of_clip: Sequence[int]) -> Tensor:
    """The uint8 frames (N, 3, R, R), each changed as its clip's plan says; on their device.

    `plans[i]` belongs to the next `frames_of_clip[i]` frames. On a GPU, nothing waits for the
    device, and the number of kernels depends on kinds of operations and frames, not on clips.
    """
    assert frames_NCHW.dtype == torch.uint8, frames_NCHW.dtype
    assert sum(frames_of_clip) == len(frames_NCHW), (frames_of_clip, len(frames_NCHW))
    parts: list[_Part] = []
    for share in _shares(plans, frames_of_clip):
        if frames_NCHW.is_cuda:
            most = max(1, PIXELS_AT_ONCE // frames_NCHW[0, 0].numel())
            parts += _of_all_clips(share, most)
        else:
            parts += _of_each_clip(share)
    return _apply_parts(frames_NCHW, parts)


class _Share(NamedTuple):
    """All of one kind of operation in one position of the plans: clips' frames and arguments."""

    operation: str
    taps: int
    clips: list[tuple[range, float]]


class _Part(NamedTuple):
    """One call of an operation: on which frames, and its arguments, one each or one for all."""

    operation: str
    taps: int
    frames: Sequence[int]
    arguments: Sequence[float]


def _shares(plans: Sequence[Plan], frames_of_clip: Sequence[int]) -> Iterator[_Share]:
    """In an order that keeps the order of every plan."""
    ends = np.cumsum(frames_of_clip).tolist()
    for position in range(max(map(len, plans), default=0)):
        clips: dict[tuple[str, int], list[tuple[range, float]]] = {}
        for plan, end, count in zip(plans, ends, frames_of_clip, strict=True):
            if position < len(plan):
                operation, argument, taps = plan[position]
                same = clips.setdefault((operation, taps), [])
                same.append((range(end - count, end), argument))
        for (operation, taps), same in clips.items():
            yield _Share(operation, taps, same)


def _of_all_clips(share: _Share, most: int) -> list[_Part]:
    """For a GPU: `most` frames at once, whosever they are, each with its argument."""
    frames = [frame for clip, _ in share.clips for frame in clip]
    arguments = [argument for clip, argument in share.clips for _ in clip]
    return [
        _Part(share.operation, share.taps, frames[i : i + most], arguments[i : i + most])
        for i in range(0, len(frames), most)
    ]


def _of_each_clip(share: _Share) -> list[_Part]:
    """For a CPU: some of a clip's frames at once, with one argument.

    A warp gets them all: it finds out once where pixels come from, and minds the cache itself.
    """
    parts = []
    for clip, argument in share.clips:
        most = len(clip) if share.operation in WARPS else FRAMES_IN_CACHE
        parts += [
            _Part(share.operation, share.taps, clip[i : i + most], [argument])
            for i in range(0, len(clip), most)
        ]
    return parts


def _apply_parts(frames_NCHW: Tensor, parts: list[_Part]) -> Tensor:
    augmented_NCHW = frames_NCHW.clone(memory_format=torch.contiguous_format)
    device = frames_NCHW.device
    # one transfer each for all parts
    frames = _moved([frame for part in parts for frame in part.frames], torch.int64, device)
    values = _moved([value for part in parts for value in part.arguments], torch.float64, device)
    frames_of_part = frames.split([len(part.frames) for part in parts])
    values_of_part = values.split([len(part.arguments) for part in parts])
    for part, index, value in zip(parts, frames_of_part, values_of_part, strict=True):
        before = augmented_NCHW.index_select(0, index)
        if part.operation in WARPS:
            after = WARPS[part.operation](before, value, part.taps)
        else:
            after = OPERATIONS[part.operation](before, value)
        augmented_NCHW.index_copy_(0, index, after)
    return augmented_NCHW


def _moved(numbers: list[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The numbers on the device; a GPU fetches them from page-locked memory in its own time."""
    host = torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)
