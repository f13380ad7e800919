"""What the tensors are compared with: timm's own RandAugment, image by image."""

import random

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment


class PilRandAugment:
    """timm's transform with the same draw for every frame."""

    def __init__(self, config):
        self.transform = auto_augment.rand_augment_transform(config, hparams={})

    def __call__(self, frames_NCHW, seed):
        return on_images(lambda image: self._seeded(image, seed), frames_NCHW)

    def _seeded(self, image, seed):
        random.seed(seed)
        np.random.seed(seed)
        return self.transform(image)


def on_images(change, frames_NCHW):
    """The frames after `change`, which maps an image to an image."""
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames_NCHW]
    changed_NHWC = np.stack([np.asarray(change(image)) for image in images])
    return torch.from_numpy(changed_NHWC).permute(0, 3, 1, 2).contiguous()
