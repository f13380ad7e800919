import random

import numpy as np
import pytest
import torch
from clips import pictures
from PIL import Image
from torchvision import transforms as pil_transforms

from tvr.dataloaders.transforms import RandAugment, clip_seed, resize_and_crop
from tvr.utils.errors import UserError


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


def test_timm_reads_the_paper_setting():
    transform = RandAugment("rand-m7-n4-mstd0.5-inc1").transform
    assert transform.num_layers == 4
    assert transform.choice_weights is None  # None: drawn with replacement
    assert {(op.prob, op.magnitude, op.magnitude_std) for op in transform.ops} == {(0.5, 7, 0.5)}
    names = {op.name for op in transform.ops}
    assert {"ColorIncreasing", "PosterizeIncreasing", "SolarizeIncreasing"} <= names
    assert not {"Color", "Posterize", "Solarize"} & names


def test_one_draw_for_all_frames():
    still_FCHW = as_FCHW(pictures(1, 64, 64)).expand(5, -1, -1, -1)
    augment = RandAugment()
    results = [augment(still_FCHW, seed) for seed in range(12)]
    for result in results:
        assert result.shape == still_FCHW.shape
        assert (result == result[:1]).all()
    # with probability 1/16 nothing is applied: most draws must show
    assert sum(not torch.equal(result, still_FCHW) for result in results) >= 8


def test_decided_by_the_seed_alone():
    frames_FCHW = as_FCHW(pictures(2, 64, 64))
    augment = RandAugment()
    results = [augment(frames_FCHW, seed) for seed in range(8)]
    random.seed(3)
    np.random.seed(3)
    for seed, result in enumerate(results):
        assert torch.equal(RandAugment()(frames_FCHW, seed), result)
    assert len({result.numpy().tobytes() for result in results}) >= 5
    seeds = {clip_seed(s, e, i) for s in range(5) for e in range(5) for i in range(20)}
    assert len(seeds) == 500


def test_global_generators_are_left_alone():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    RandAugment()(as_FCHW(pictures(3, 32, 32)), 7)
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


@pytest.mark.parametrize("config", ["augment", "rand-x7", "rand-mmany7"])
def test_config_that_timm_does_not_know(config):
    with pytest.raises(UserError, match=config):
        RandAugment(config)
