"""Every operation on tensors against Pillow's on images, called through timm."""

import numpy as np
import pytest
import torch
from clips import pictures
from PIL import Image
from pil_augment import on_images
from timm.data import auto_augment

from tvr.dataloaders.augment_geo import WARPS
from tvr.dataloaders.augment_ops import OPERATIONS

RESAMPLE = {2: Image.Resampling.BILINEAR, 4: Image.Resampling.BICUBIC}
ENHANCEMENTS = ("brightness", "contrast", "color", "sharpness", "desaturate")
# from none to twice timm's strongest
FACTORS = [0, 0.1, 0.37, 0.5, 0.63, 0.999, 1, 1.001, 1.37, 1.63, 1.9, 2, 2.8, 3.7]


def frames_of_all_kinds(side):
    """frames_NCHW: pictures, noise, flat, nearly flat, few levels, one grey level in a channel."""
    generator = np.random.default_rng(side)
    frames = np.concatenate([pictures(3, side, side), np.zeros((5, side, side, 3), np.uint8)])
    frames[3] = generator.integers(0, 256, frames[3].shape)
    frames[4] = (100, 0, 255)
    frames[5, :, side // 2 :] = 1
    frames[6] = generator.integers(98, 103, frames[6].shape)
    frames[7] = generator.integers(0, 256, (side, side, 1))
    frames[7, ..., 1] = 77
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


def differences(operation, argument, side=64, taps=0):
    """Levels between Pillow's values and ours, which do not depend on how many arguments come."""
    frames_NCHW = frames_of_all_kinds(side)
    drawing = {"resample": RESAMPLE[taps], "fillcolor": (128, 128, 128)} if taps else {}
    arguments = () if argument is None else (argument,)
    expected = on_images(
        lambda image: getattr(auto_augment, operation)(image, *arguments, **drawing), frames_NCHW
    )
    change = WARPS[operation] if taps else OPERATIONS[operation]
    results = [
        change(frames_NCHW, torch.full((m,), argument or 0, dtype=torch.float64), *[taps][:taps])
        for m in (1, len(frames_NCHW))
    ]
    assert torch.equal(*results)
    assert results[0].dtype == torch.uint8
    return (results[0].int() - expected.int()).abs()


@pytest.mark.parametrize("side", [16, 64, 65])
@pytest.mark.parametrize("operation", ["auto_contrast", "equalize", "invert"])
def test_operations_without_argument_equal_pillows(operation, side):
    assert differences(operation, None, side).max() == 0


def test_auto_contrast_equals_pillows_for_every_range():
    """All values of 0 to 255 between two of them, which one division scales."""
    low, high = np.triu_indices(256, k=1)
    chosen = np.random.default_rng(0).permutation(len(low))[: 3 * 2000].reshape(-1, 3, 1, 1)
    values = np.arange(256).reshape(16, 16)
    frames = torch.from_numpy(values.clip(low[chosen], high[chosen]).astype(np.uint8))
    expected = on_images(auto_augment.auto_contrast, frames)
    assert torch.equal(OPERATIONS["auto_contrast"](frames, torch.zeros(1)), expected)


@pytest.mark.parametrize("bits", [-4, 0, 1, 2, 3, 4, 7, 8, 9])
def test_posterize_equals_pillows(bits):
    assert differences("posterize", bits).max() == 0


@pytest.mark.parametrize("threshold", [0, 1, 77, 128, 255, 256])
def test_solarize_equals_pillows(threshold):
    assert differences("solarize", threshold).max() == 0


@pytest.mark.parametrize("more", [0, 1, 77, 110, 128])
def test_solarize_add_equals_pillows(more):
    assert differences("solarize_add", more).max() == 0


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("operation", ENHANCEMENTS)
def test_enhancements_equal_pillows(operation, factor):
    assert differences(operation, factor).max() == 0


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("operation", ENHANCEMENTS)
def test_enhancements_of_tiny_frames_equal_pillows(operation, side):
    assert differences(operation, 1.63, side).max() == 0


@pytest.mark.parametrize("radius", [0.1, 0.5, 1.0, 1.2247, 1.43, 1.9, 2.0])
def test_gaussian_blur_equals_pillows(radius):
    assert differences("gaussian_blur", radius).max() == 0


@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("side", [64, 65])
@pytest.mark.parametrize(
    ("operation", "scale"),
    [
        ("shear_x", 0.3),
        ("shear_y", 0.3),
        ("translate_x_rel", 0.45),
        ("translate_y_rel", 0.45),
        ("translate_x_abs", 50),
        ("translate_y_abs", 50),
        ("rotate", 30),
    ],
)
class TestGeometry:
    def test_drawn_arguments_give_pillows_values_but_for_isolated_ones(
        self, operation, scale, side, taps
    ):
        for argument in np.random.default_rng(side).uniform(-scale, scale, 6):
            levels = differences(operation, argument, side, taps)
            assert levels.max() <= 1
            assert (levels > 0).sum() <= 2  # of 98,304 or more

    def test_round_arguments_give_pillows_values_within_one_level(
        self, operation, scale, side, taps
    ):
        """Where a value is whole but for rounding, Pillow may cut off its fraction of 0.999..."""
        for share in (-1, -0.7, 0, 0.5, 1, 3):
            levels = differences(operation, share * scale, side, taps)
            assert levels.max() <= 1
            assert (levels > 0).double().mean() < 0.03
