"""From decoded frames to the encoder's input size, and the seed of a clip's augmentation.

Shapes: F frames, C = 3 channels, H height, W width, R the encoder's resolution.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F


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


def clip_seed(seed: int, epoch: int, index: int) -> int:
    """One 32-bit seed for a caption's clip in one epoch, the same in every worker and process."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])
