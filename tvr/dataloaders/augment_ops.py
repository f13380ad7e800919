"""RandAugment's operations on the colours of whole batches of frames, equal to Pillow's.

An operation takes uint8 frames_NCHW and float64 value_M (its argument, one a frame or one for all;
ignored where it has none), and returns uint8 frames_NCHW of the same shape.
Shapes: N frames, M = N or 1, C = 3 channels, H and W pixels, L = 256 levels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as nn
from torchvision.transforms.v2 import functional as F


def auto_contrast(frames_NCHW: Tensor, _: Tensor) -> Tensor:
    """Each channel's darkest value becomes 0 and its lightest 255; a flat channel stays."""
    low_NC1, high_NC1 = (
        extreme[:, :, None].double()
        for extreme in (frames_NCHW.amin((2, 3)), frames_NCHW.amax((2, 3)))
    )
    flat_NC1 = low_NC1 == high_NC1
    # `255 / range` would be 255 times the reciprocal, which rounds twice
    scale_NC1 = torch.where(flat_NC1, 1, torch.full_like(low_NC1, 255) / (high_NC1 - low_NC1))
    offset_NC1 = torch.where(flat_NC1, 0, -low_NC1 * scale_NC1)
    return _look_up(frames_NCHW, _levels(frames_NCHW) * scale_NC1 + offset_NC1)


def equalize(frames_NCHW: Tensor, _: Tensor) -> Tensor:
    """Each channel's values are spread evenly."""
    return F.equalize(frames_NCHW)


def invert(frames_NCHW: Tensor, _: Tensor) -> Tensor:
    """Dark for light."""
    return 255 - frames_NCHW


def posterize(frames_NCHW: Tensor, bits_M: Tensor) -> Tensor:
    """Keep a value's highest bits; none or fewer leave black, 8 or more leave all."""
    step_M11 = 1 << (8 - bits_M.long()).clamp_(min=0)[:, None, None]
    levels_L = _levels(frames_NCHW).long()
    return _look_up(frames_NCHW, levels_L // step_M11 * step_M11)


def solarize(frames_NCHW: Tensor, threshold_M: Tensor) -> Tensor:
    """Invert what is not below the threshold."""
    levels_L = _levels(frames_NCHW)
    dark_M1L = levels_L < threshold_M[:, None, None]
    return _look_up(frames_NCHW, torch.where(dark_M1L, levels_L, 255 - levels_L))


def solarize_add(frames_NCHW: Tensor, more_M: Tensor) -> Tensor:
    """Make the darker half of the levels lighter."""
    levels_L = _levels(frames_NCHW)
    lighter_M1L = levels_L + more_M[:, None, None]
    return _look_up(frames_NCHW, torch.where(levels_L < 128, lighter_M1L, levels_L))


def brightness(frames_NCHW: Tensor, factor_M: Tensor) -> Tensor:
    """Between black (0) and the frame (1), or beyond it."""
    levels_L = _levels(frames_NCHW).float()
    return _look_up(frames_NCHW, levels_L * factor_M[:, None, None].float())


def contrast(frames_NCHW: Tensor, factor_M: Tensor) -> Tensor:
    """Between the frame's mean grey (0) and the frame (1), or beyond it."""
    pixels = frames_NCHW.shape[2] * frames_NCHW.shape[3]
    sum_N = _grey(frames_NCHW.float()).sum((1, 2, 3), dtype=torch.float64)
    mean_N11 = (sum_N / pixels + 0.5).floor_()[:, None, None]
    levels_L = _levels(frames_NCHW)
    return _look_up(frames_NCHW, _blend(mean_N11, levels_L, factor_M[:, None, None]))


def color(frames_NCHW: Tensor, factor_M: Tensor) -> Tensor:
    """Between grey (0) and the frame (1), or beyond it."""
    values_NCHW = frames_NCHW.float()
    return _blend(_grey(values_NCHW), values_NCHW, factor_M[:, None, None, None])


def desaturate(frames_NCHW: Tensor, factor_M: Tensor) -> Tensor:
    """Between the frame (0) and grey (1)."""
    return color(frames_NCHW, (1 - factor_M).clamp_(0, 1))


def sharpness(frames_NCHW: Tensor, factor_M: Tensor) -> Tensor:
    """Between the frame smoothed (0) and the frame (1), or beyond it; the border stays."""
    values_NCHW = frames_NCHW.short()
    rows = values_NCHW[:, :, :-2] + values_NCHW[:, :, 1:-1] + values_NCHW[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    sums += 4 * values_NCHW[:, :, 1:-1, 1:-1]
    original_NCHW = frames_NCHW.float()
    smooth_NCHW = original_NCHW.clone()
    # thirteenths are never a half: this rounds as Pillow does
    smooth_NCHW[:, :, 1:-1, 1:-1] = (sums / 13).round_()
    return _blend(smooth_NCHW, original_NCHW, factor_M[:, None, None, None])


def gaussian_blur(frames_NCHW: Tensor, radius_M: Tensor) -> Tensor:
    """Blur by a standard deviation of at most 2 pixels.

    Pillow's way: in each direction three boxes of a fractional width (Gwosdek et al., "Theoretical
    foundations of Gaussian convolution by extended box filtering", 2011), in 24-bit fixed point.
    """
    variance_M = radius_M.float() ** 2 / 3
    length_M = (12 * variance_M.double() + 1).sqrt().float()
    whole_M = ((length_M - 1) / 2).floor()
    part_M = (2 * whole_M + 1) * (whole_M * (whole_M + 1) - 3 * variance_M)
    part_M = part_M / (6 * (variance_M - (whole_M + 1) ** 2))
    inner_M = (2**24 / (2 * (whole_M + part_M) + 1)).floor().double()
    edge_M = ((2**24 - (2 * whole_M + 1) * inner_M) / 2).floor()
    # weights of a pixel, its neighbours and their neighbours, which are outside of a narrow box
    near_M = torch.where(whole_M == 0, edge_M, inner_M)
    far_M = torch.where(whole_M == 0, 0, edge_M)
    weights = [weight_M[:, None, None, None] for weight_M in (inner_M, near_M, far_M)]
    values_NCHW = frames_NCHW.double()
    for _ in range(3):
        values_NCHW = _box(values_NCHW, weights)
    for _ in range(3):
        values_NCHW = _box(values_NCHW.mT, weights).mT
    return values_NCHW.to(torch.uint8)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    function.__name__: function
    for function in (
        auto_contrast,
        equalize,
        invert,
        posterize,
        solarize,
        solarize_add,
        brightness,
        contrast,
        color,
        desaturate,
        sharpness,
        gaussian_blur,
    )
}


def _levels(frames_NCHW: Tensor) -> Tensor:
    return torch.arange(256, dtype=torch.float64, device=frames_NCHW.device)


def _look_up(frames_NCHW: Tensor, table: Tensor) -> Tensor:
    """Every value's entry in a table that broadcasts to (N, C, L), cut to whole levels."""
    n, channels = frames_NCHW.shape[:2]
    table_NCL = table.clamp(0, 255).to(torch.uint8).expand(n, channels, -1)
    return table_NCL.gather(2, frames_NCHW.flatten(2).long()).view_as(frames_NCHW)


def _grey(values_NCHW: Tensor) -> Tensor:
    """The float32 frames' luma_N1HW in whole levels: ITU-R 601 in 16-bit fixed point, rounded."""
    red, green, blue = values_NCHW.split(1, dim=1)
    # whole numbers below 2**24, which float32 holds exactly
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) / 2**16).floor_()


def _blend(degenerate: Tensor, original: Tensor, factor: Tensor) -> Tensor:
    """From degenerate (factor 0) to original (1) and beyond, uint8, in Pillow's float32."""
    difference = original.float() - degenerate.float()
    blended = (difference * factor.float()).add_(degenerate.float())
    return blended.clamp_(0, 255).to(torch.uint8)


def _box(values_NCHW: Tensor, weights: list[Tensor]) -> Tensor:
    """One box along the last axis; the weights of distances 0, 1 and 2, in 2**-24."""
    size = values_NCHW.shape[3]
    padded = nn.pad(values_NCHW, (2, 2, 0, 0), mode="replicate")
    sums = padded[..., 2 : size + 2] * weights[0]
    sums += (padded[..., 1 : size + 1] + padded[..., 3 : size + 3]) * weights[1]
    sums += (padded[..., :size] + padded[..., 4:]) * weights[2]
    return (sums / 2**24 + 0.5).floor_()
