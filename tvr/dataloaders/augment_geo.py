"""RandAugment's geometric operations on whole batches of frames, as Pillow computes them.

An operation takes uint8 frames_NCHW, float64 value_M (its argument, one a frame or one for all) and
the number of taps (2: linear, 4: cubic), and returns uint8 frames_NCHW of the same shape.
Shapes: N frames, M = N or 1, C = 3 channels, H = W = R pixels, P = H * W.

Pillow looks up every pixel's centre in the source, weights the nearest pixels (the outermost again
where there is none) in double precision and cuts off the fraction; a centre outside the source
becomes mid-grey. Its polynomials are nested, these weights are summed: the same but for the last
bits of a double.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

FILL = 128
# A sum of 99.999... is a 100 whose fraction must not be cut off; the weights' errors in 64 million
# values were below 3e-13
ROUNDING = 1e-12


def shear_x(frames_NCHW: Tensor, factor_M: Tensor, taps: int) -> Tensor:
    """Row y moves left by factor * y."""
    x_R, y_R1 = _centres(frames_NCHW)
    x_MRR = x_R + factor_M[:, None, None] * y_R1
    return _resample(frames_NCHW, x_MRR, y_R1[None], taps, 1)


def shear_y(frames_NCHW: Tensor, factor_M: Tensor, taps: int) -> Tensor:
    """Column x moves up by factor * x."""
    x_R, y_R1 = _centres(frames_NCHW)
    y_MRR = factor_M[:, None, None] * x_R + y_R1
    return _resample(frames_NCHW, x_R[None, None], y_MRR, 1, taps)


def translate_x_abs(frames_NCHW: Tensor, pixels_M: Tensor, taps: int) -> Tensor:
    """The frame moves left."""
    x_R, y_R1 = _centres(frames_NCHW)
    return _resample(frames_NCHW, x_R + pixels_M[:, None, None], y_R1[None], taps, 1)


def translate_y_abs(frames_NCHW: Tensor, pixels_M: Tensor, taps: int) -> Tensor:
    """The frame moves up."""
    x_R, y_R1 = _centres(frames_NCHW)
    return _resample(frames_NCHW, x_R[None, None], y_R1 + pixels_M[:, None, None], 1, taps)


def translate_x_rel(frames_NCHW: Tensor, share_M: Tensor, taps: int) -> Tensor:
    """The frame moves left by a share of its width."""
    return translate_x_abs(frames_NCHW, share_M * frames_NCHW.shape[3], taps)


def translate_y_rel(frames_NCHW: Tensor, share_M: Tensor, taps: int) -> Tensor:
    """The frame moves up by a share of its height."""
    return translate_y_abs(frames_NCHW, share_M * frames_NCHW.shape[2], taps)


def rotate(frames_NCHW: Tensor, degrees_M: Tensor, taps: int) -> Tensor:
    """Counter-clockwise about the middle."""
    middle = frames_NCHW.shape[3] / 2
    x_R, y_R1 = (centres - middle for centres in _centres(frames_NCHW))
    angle_M11 = degrees_M[:, None, None] * (math.pi / 180)
    x_MRR = angle_M11.cos() * x_R - angle_M11.sin() * y_R1 + middle
    y_MRR = angle_M11.sin() * x_R + angle_M11.cos() * y_R1 + middle
    return _resample(frames_NCHW, x_MRR, y_MRR, taps, taps)


WARPS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    function.__name__: function
    for function in (
        shear_x,
        shear_y,
        translate_x_abs,
        translate_y_abs,
        translate_x_rel,
        translate_y_rel,
        rotate,
    )
}


def _centres(frames_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels' centres along x_R and y_R1, in float64."""
    side = frames_NCHW.shape[3]
    assert frames_NCHW.shape[2] == side, frames_NCHW.shape
    centres_R = torch.arange(side, dtype=torch.float64, device=frames_NCHW.device) + 0.5
    return centres_R, centres_R[:, None]


def _resample(frames_NCHW: Tensor, x: Tensor, y: Tensor, taps_x: int, taps_y: int) -> Tensor:
    """The frames at the source's coordinates x and y, which broadcast to (M, R, R)."""
    n, channels, side, _ = frames_NCHW.shape
    m = max(len(x), len(y))
    columns = _neighbours(x, side, taps_x)
    # a generator: the taps of many frames would be many times their size
    taps: Iterable[tuple[Tensor, Tensor]] = (
        (_flat(row * side + column, m, side), _flat(weight_y * weight_x, m, side))
        for row, weight_y in _neighbours(y, side, taps_y)
        for column, weight_x in columns
    )
    step = n
    if m == 1:
        # one frame at a time stays in the cache
        taps, step = list(taps), 1

    result_NCHW = torch.empty_like(frames_NCHW)
    # the same memory over and over: fresh pages would take longer than the sums
    picked = frames_NCHW.new_empty(step, channels, side * side)
    value, total = (torch.empty_like(picked, dtype=torch.float64) for _ in range(2))
    for source, target in zip(frames_NCHW.split(step), result_NCHW.split(step), strict=True):
        total.fill_(ROUNDING)
        for index_M1P, weight_M1P in taps:
            index = index_M1P.expand_as(picked)
            torch.gather(source.flatten(2), 2, index, out=picked)
            total.addcmul_(value.copy_(picked), weight_M1P)
        target.copy_(total.clamp_(0, 255).view_as(target))
    outside = (x < 0) | (x >= side) | (y < 0) | (y >= side)
    return result_NCHW.masked_fill_(outside[:, None], FILL)


def _neighbours(coordinate: Tensor, size: int, taps: int) -> list[tuple[Tensor, Tensor]]:
    """Index and weight of each of the pixels around a coordinate, both of its shape."""
    coordinate = coordinate - 0.5
    first = coordinate.floor()
    d = coordinate - first
    if taps == 1:
        weights = [torch.ones_like(d)]
    elif taps == 2:
        weights = [1 - d, d]
    else:
        # Pillow's cubic: Keys' with a = -1, where others have -0.5 or -0.75
        weights = [-d * (1 - d) ** 2, 1 + d**2 * (d - 2), d * (1 + d - d**2), d**2 * (d - 1)]
    before = (taps - 1) // 2
    return [
        ((first.long() + k - before).clamp_(0, size - 1), weight)
        for k, weight in enumerate(weights)
    ]


def _flat(tensor: Tensor, m: int, side: int) -> Tensor:
    return tensor.expand(m, side, side).flatten(1)[:, None]
