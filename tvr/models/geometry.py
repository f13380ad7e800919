"""Where Δ points and how far it leads: angles, lengths and distances of every pair.

The corrected side of a pair is x (the text t_i, with `correct="video"` the pooled video p_ij), the
other side is y, and x^Δ = x + Δ.

Shapes: A texts, B videos, D embedding width, R the texts of this process; pair (i, i) of all texts
is a positive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tvr.models.pooling import mean_frame
from tvr.models.score import ModelSettings, PairScores, TextFeatures, VideoFeatures
from tvr.utils.distributed import rank, sum_over_ranks, world_size

SMALLEST = 1e-12  # a length that is divided by


def pair_geometry(
    text: TextFeatures, video: VideoFeatures, scores: PairScores, settings: ModelSettings
) -> dict[str, Tensor]:
    """Quantities of every pair, each (A, B): lengths, distances, cosines, and angles in degrees.

    Without Δ those of texts and pooled videos alone: `norm_text`, `norm_video`, `distance`,
    `cosine`. With Δ also `norm_delta`, the angles `angle_gap` of Δ with the gap η·(v̄_j − t_i) and
    `angle_x` with the corrected side, and after the correction `norm_corrected` = ‖x^Δ‖,
    `distance_corrected` = ‖x^Δ − y‖ and `cosine_corrected`, which is the score.
    """
    text_AD, pooled_ABD = text.text_AD, scores.pooled_ABD
    assert pooled_ABD is not None, "the score by mean frames has no pooled video"
    t_AB, p_AB = text_AD.norm(dim=-1)[:, None].expand(pooled_ABD.shape[:2]), pooled_ABD.norm(dim=-1)
    tp_AB = products(text_AD, pooled_ABD)
    squared_AB = t_AB.square() + p_AB.square() - 2 * tp_AB
    found = {
        "norm_text": t_AB,
        "norm_video": p_AB,
        "distance": root(squared_AB),
        "cosine": tp_AB / (t_AB * p_AB).clamp_min(SMALLEST),
    }
    if scores.delta_ABD is None:
        return found
    delta_ABD = scores.delta_ABD
    mean_BD = mean_frame(video.frames_BFD, video.mask_BF, settings.padding)
    d_AB = delta_ABD.norm(dim=-1)
    dt_AB = products(text_AD, delta_ABD)
    dv_AB = products(mean_BD, delta_ABD.transpose(0, 1)).T
    d_gap_AB = settings.eta * (dv_AB - dt_AB)
    gap_AB = torch.cdist(text_AD, mean_BD)
    # Δ times x, and the lengths of x and y
    if settings.correct == "text":
        dx_AB, x_AB, y_AB = dt_AB, t_AB, p_AB
    else:
        dx_AB, x_AB, y_AB = torch.linalg.vecdot(delta_ABD, pooled_ABD), p_AB, t_AB
    corrected_AB = root(x_AB.square() + d_AB.square() + 2 * dx_AB)
    # the law of cosines, since the score is known: no product of Δ with y is needed
    apart_AB = corrected_AB.square() + y_AB.square() - 2 * scores.sim_AB * corrected_AB * y_AB
    return found | {
        "norm_delta": d_AB,
        "angle_gap": degrees(d_gap_AB / (d_AB * gap_AB).clamp_min(SMALLEST)),
        "angle_x": degrees(dx_AB / (d_AB * x_AB).clamp_min(SMALLEST)),
        "norm_corrected": corrected_AB,
        "distance_corrected": root(apart_AB),
        "cosine_corrected": scores.sim_AB,
    }


def products(one_AD: Tensor, many_ABD: Tensor) -> Tensor:
    """The inner products of every row's one vector with its many, (A, B).

    The one from the left: einsum takes it from the right, ten times as slowly on a CPU.
    """
    return (one_AD[:, None] @ many_ABD.mT).squeeze(1)


def root(squared: Tensor) -> Tensor:
    """The root of a squared length, which rounding may have carried below 0."""
    return squared.clamp_min(0).sqrt()


def degrees(cosine: Tensor) -> Tensor:
    """The angle of a cosine, which rounding may have carried past 1."""
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


@torch.no_grad()
def delta_statistics(delta_RBD: Tensor) -> dict[str, Tensor]:
    """Of all processes' pairs: the mean of ‖Δ‖, and per anchor its spread over the candidates."""
    norm_RB = delta_RBD.norm(dim=-1)
    return over_ranks(
        {"delta/norm": norm_RB.mean(), "delta/norm_sd": norm_RB.std(dim=1).mean()},
    )


@torch.no_grad()
def geometry_statistics(
    text: TextFeatures, video: VideoFeatures, scores: PairScores, settings: ModelSettings
) -> dict[str, Tensor]:
    """The means of `pair_geometry` over the positives and over the negatives of all processes."""
    found = pair_geometry(text, video, scores, settings)
    rows, columns = scores.sim_AB.shape
    first = rank() * rows
    means = {}
    for name, value_RB in found.items():
        positive = value_RB.diagonal(first).mean()
        means[f"positive/{name}"] = positive
        means[f"negative/{name}"] = (value_RB.mean() * columns - positive) / (columns - 1)
    return over_ranks(means)


def over_ranks(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over processes, each of which has equally many texts, in one exchange."""
    mean_V = sum_over_ranks(torch.stack(list(values.values()))) / world_size()
    return dict(zip(values, mean_V.unbind(), strict=True))
