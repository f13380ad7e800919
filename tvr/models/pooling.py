"""Text-conditioned frame pooling and the mean frame.

Shapes: A texts, B videos, F frames, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool_frames(
    text_AD: Tensor, frames_BFD: Tensor, mask_BF: Tensor, temp: float, padding: str = "mask"
) -> Tensor:
    """p_ij = Σ_f a_ijf V_jf with a_ijf = softmax_f(t_i · V_jf / temp), on raw features.

    `padding="mask"` keeps padded frames out of the softmax. `padding="release"` lets them into the
    softmax and sets their weight to 0 afterwards without renormalising, as the authors' code does.

    Returns pooled_ABD.
    """
    logits_ABF = torch.einsum("ad,bfd->abf", text_AD, frames_BFD) / temp
    if padding == "mask":
        logits_ABF = logits_ABF.masked_fill(~mask_BF, float("-inf"))
    weights_ABF = logits_ABF.softmax(dim=-1)
    if padding == "release":
        weights_ABF = weights_ABF * mask_BF
    return torch.einsum("abf,bfd->abd", weights_ABF, frames_BFD)


def mean_frame(frames_BFD: Tensor, mask_BF: Tensor, padding: str = "mask") -> Tensor:
    """v̄_j, the mean of video j's frame features; `padding="release"` averages padded frames in.

    Returns mean_BD.
    """
    if padding == "release":
        return frames_BFD.mean(dim=1)
    real_BF = mask_BF.to(frames_BFD.dtype)
    weights_BF = real_BF / real_BF.sum(dim=1, keepdim=True)
    return torch.einsum("bf,bfd->bd", weights_BF, frames_BFD)
