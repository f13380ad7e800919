"""From decoded frames to the encoder's input size, and the augmentation of training clips.

Shapes: F frames, C = 3 channels, H height, W width, R the encoder's resolution.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from tvr.utils.errors import UserError

RAND_AUGMENT = "rand-m7-n4-mstd0.5-inc1"


def resize_and_crop(frames_FCHW: Tensor, resolution: int) -> Tensor:
    """CLIP's geometry: bicubic, antialiased resize of the short side, then the centre.

    uint8 (F, 3, H, W) to uint8 (F, 3, R, R); within one level of the same on PIL images, which
    take eight times as long (two levels in fewer than one of 10,000 values, at isolated pixels).
    """
    assert frames_FCHW.dtype == torch.uint8, frames_FCHW.dtype
    resized_FCHW = F.resize(
        frames_FCHW, [resolution], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return F.center_crop(resized_FCHW, [resolution, resolution])


class RandAugment:
    """timm's RandAugment with one random draw for all frames of a clip.

    `config` is timm's notation: m7 magnitude, n4 operations drawn with replacement, mstd0.5 the
    magnitude's standard deviation, inc1 severity grows with magnitude; each operation is applied
    with probability 0.5. Uncovered corners become mid-grey. Raises UserError for a config that
    timm does not understand.
    """

    def __init__(self, config: str = RAND_AUGMENT) -> None:
        try:
            self.transform = rand_augment_transform(config, hparams={})
        except (AssertionError, ValueError, KeyError) as error:
            raise UserError(
                f"RandAugment {config!r}: timm does not understand it ({error}). "
                f"Use for example {RAND_AUGMENT}."
            ) from error

    def __call__(self, frames_FCHW: Tensor, seed: int) -> Tensor:
        """Augment uint8 frames (F, 3, R, R) as (config, seed) decide; 0 <= seed < 2**32."""
        augmented = []
        for frame_CHW in frames_FCHW:
            image = Image.fromarray(frame_CHW.permute(1, 2, 0).contiguous().numpy())
            # timm draws from the global generators, operation by operation and frame by frame
            with _global_generators_at(seed):
                augmented.append(np.asarray(self.transform(image)))
        return torch.from_numpy(np.stack(augmented)).permute(0, 3, 1, 2).contiguous()


@contextmanager
def _global_generators_at(seed: int) -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def clip_seed(seed: int, epoch: int, index: int) -> int:
    """One 32-bit seed for a caption's clip in one epoch, the same in every worker and process."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])
