import numpy as np
import pytest
import torch
from clips import pictures
from PIL import Image
from torchvision import transforms as pil_transforms

from tvr.dataloaders.transforms import clip_seed, resize_and_crop


def as_FCHW(frames_FHWC: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [(240, 320), (224, 399), (401, 225), (224, 224), (100, 131)])
@pytest.mark.parametrize("resolution", [224, 112])
def test_resize_and_crop_as_clip_does_it_on_images(size, resolution):
    frames_FHWC = pictures(3, *size)
    reference = pil_transforms.Compose(
        [
            pil_transforms.Resize(resolution, pil_transforms.InterpolationMode.BICUBIC),
            pil_transforms.CenterCrop(resolution),
        ]
    )
    expected = np.stack([np.asarray(reference(Image.fromarray(f))) for f in frames_FHWC])
    result = resize_and_crop(as_FCHW(frames_FHWC), resolution)
    assert result.dtype == torch.uint8
    assert result.shape == (3, 3, resolution, resolution)
    levels = np.abs(result.permute(0, 2, 3, 1).numpy().astype(int) - expected)
    # the pictures' isolated noise is harder than real content
    assert levels.max() <= 2
    assert (levels > 1).mean() < 1e-4
    assert (levels > 0).mean() < 1e-2


def test_every_clip_in_every_epoch_has_a_seed_of_its_own():
    seeds = {clip_seed(s, e, i) for s in range(5) for e in range(5) for i in range(20)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**32 for seed in seeds)
