"""The training objective, one function per equation.

    L = L_nce + β·L_ib + λ_ε·L_ε + λ_dir·L_dir

Shapes: A texts (anchors), B videos (candidates), D embedding width, R the texts of this process:
A / W of them with W processes. Pair (i, i) is the positive, and A = B.

Every function takes the rows of this process's texts, over all videos, and returns the loss of the
global batch, the same on every process. Sums over anchors are sums over processes as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tvr.utils.distributed import gather_with_grad, sum_over_ranks, world_size


@dataclass(frozen=True)
class LossSettings:
    """Weights and variants; the field names are the command line's flags."""

    alpha: float = 2.0
    beta: float = 0.07
    lambda_dir: float = 0.01
    lambda_epsilon: float = 0.01
    lambda_lower: float = 0.5
    kl: str = "per_dim"
    kl_anchor: str = "video"
    kl_prior: float = 1.0
    kl_normalize: bool = False
    dir_form: str = "uniformity"
    epsilon_form: str = "hard"
    same_video: str = "negative"


def info_nce(sim_RB: Tensor, scale: Tensor, ignore_AB: Tensor | None = None) -> Tensor:
    """L_nce = ½(CE over rows + CE over columns) of scale·s with diagonal targets.

    `ignore_AB` is True for pairs that are left out of the denominators.
    """
    logits_AB = scale * gather_with_grad(sim_RB)
    if ignore_AB is not None:
        logits_AB = logits_AB.masked_fill(ignore_AB, float("-inf"))
    target_A = torch.arange(len(logits_AB), device=logits_AB.device)
    return (F.cross_entropy(logits_AB, target_A) + F.cross_entropy(logits_AB.T, target_A)) / 2


def duplicate_videos(video_B: Tensor) -> Tensor:
    """True at (i, j), i ≠ j, where video j is the same file as anchor i's own (`--same_video`)."""
    same_BB = video_B[:, None] == video_B[None, :]
    return same_BB & ~torch.eye(len(video_B), dtype=torch.bool, device=video_B.device)


def mean_over_anchors(values_R: Tensor) -> Tensor:
    """The mean over the texts of all processes, of which each has equally many."""
    return sum_over_ranks(values_R.mean()) / world_size()


def radius_loss(delta_RBD: Tensor, lower: float, form: str = "hard") -> Tensor:
    """L_ε = −mean_i var_j(‖Δ_ij‖₂), bounded below by −λ.

    The variance is unbiased, over the candidates of one anchor. `hard` is max(L_ε, −λ): beyond λ
    the term is constant and has no gradient. `smooth` is log(exp(L_ε) + exp(−λ)), which stays
    above −λ and lets a vanishing gradient through.
    """
    loss = -mean_over_anchors(delta_RBD.norm(dim=-1).var(dim=1))
    floor = torch.full_like(loss, -lower)
    return torch.logaddexp(loss, floor) if form == "smooth" else torch.maximum(loss, floor)


def direction_loss(delta_RBD: Tensor, alpha: float, form: str = "uniformity") -> Tensor:
    """L_dir: spreads the directions z_ij = Δ_ij/‖Δ_ij‖ of one anchor's increments.

    `uniformity`: mean_i log(mean_{j,k} exp(−α(1 − z_ij·z_ik)) + 1e-8), j = k included.
    `orthogonal`: mean over i and j ≠ k of (z_ij·z_ik)².
    """
    # the norms are in the inner products already, and no z is kept for the gradient
    product_RBB = delta_RBD @ delta_RBD.transpose(1, 2)
    inverse_RB = product_RBB.diagonal(dim1=1, dim2=2).clamp_min(1e-24).rsqrt()
    cosine_RBB = product_RBB * inverse_RB[:, :, None] * inverse_RB[:, None]
    if form == "orthogonal":
        count = cosine_RBB.shape[1]
        off_diagonal_R = cosine_RBB.square().sum(dim=(1, 2)) - _diagonal_squares(cosine_RBB)
        return mean_over_anchors(off_diagonal_R / (count * (count - 1)))
    kernel_RBB = torch.exp(-alpha * (1 - cosine_RBB))
    return mean_over_anchors(torch.log(kernel_RBB.mean(dim=(1, 2)) + 1e-8))


def _diagonal_squares(matrix_RBB: Tensor) -> Tensor:
    return matrix_RBB.diagonal(dim1=1, dim2=2).square().sum(dim=1)


def bottleneck_loss(
    delta_RBD: Tensor,
    convention: str = "per_dim",
    anchor: str = "video",
    prior: float = 1.0,
    normalize: bool = False,
) -> Tensor:
    """L_ib = KL(N(μ, σ²) ‖ N(0, σ₀² I)), with μ, σ fitted to the increments that share an anchor.

    For anchor `video`: μ_j = mean_i Δ_ij, σ_j = std_i Δ_ij (unbiased) + 1e-6; for `text` over j.
    Per dimension KL = ½(σ²/σ₀² + μ²/σ₀² − 1) − log(σ/σ₀). `per_dim` averages over anchors and
    dimensions (the paper, β = 0.07); `joint` sums over dimensions and averages over anchors (the
    authors' release, β = 1e-4): the two differ by the factor D.
    """
    if normalize:
        delta_RBD = F.normalize(delta_RBD, dim=-1)
    mean_ND, std_ND = moments(delta_RBD, anchor)
    mean_ND, std_ND = mean_ND / prior, std_ND / prior
    kl_ND = 0.5 * (std_ND.square() + mean_ND.square() - 1) - std_ND.log()
    kl_N = kl_ND.mean(dim=-1) if convention == "per_dim" else kl_ND.sum(dim=-1)
    return kl_N.mean() if anchor == "video" else mean_over_anchors(kl_N)


def moments(delta_RBD: Tensor, anchor: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (unbiased, plus 1e-6) of the increments that share an anchor.

    (B, D) each for anchor `video`, (R, D) for `text`. Centred by hand, and twice: increments can
    differ by 1e-5 of their size, and the gradient of torch.std then consists of the mean's rounding
    error (docs/fidelity.md has the measurement).
    """
    over = 0 if anchor == "video" else 1
    count = delta_RBD.shape[over] * (world_size() if anchor == "video" else 1)

    def total(values_RBD: Tensor) -> Tensor:
        share = values_RBD.sum(dim=over, keepdim=True)
        return sum_over_ranks(share) if anchor == "video" else share

    mean = total(delta_RBD) / count
    centred_RBD = delta_RBD - mean
    centred_RBD = centred_RBD - total(centred_RBD) / count
    variance = total(centred_RBD.square()) / (count - 1)
    # A clip of one frame has the same Δ for every text; sqrt has no gradient at 0
    std = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt() + 1e-6
    return mean.squeeze(over), std.squeeze(over)


def total_loss(
    sim_RB: Tensor,
    delta_RBD: Tensor | None,
    scale: Tensor,
    video_B: Tensor,
    settings: LossSettings,
) -> dict[str, Tensor]:
    """All terms of L, unweighted, and their weighted sum under "loss".

    `delta_RBD` is None for the baseline, whose loss is L_nce alone; `video_B` tells the files of
    all videos apart. A term of weight 0 is not computed.
    """
    ignore_AB = duplicate_videos(video_B) if settings.same_video == "ignore" else None
    terms = {"nce": info_nce(sim_RB, scale, ignore_AB)}
    weights = {"nce": 1.0}
    if delta_RBD is not None:
        s = settings
        weights |= {"ib": s.beta, "epsilon": s.lambda_epsilon, "dir": s.lambda_dir}
        if s.beta:
            terms["ib"] = bottleneck_loss(delta_RBD, s.kl, s.kl_anchor, s.kl_prior, s.kl_normalize)
        if s.lambda_epsilon:
            terms["epsilon"] = radius_loss(delta_RBD, s.lambda_lower, s.epsilon_form)
        if s.lambda_dir:
            terms["dir"] = direction_loss(delta_RBD, s.alpha, s.dir_form)
    total = sum(weights[name] * term for name, term in terms.items())
    assert isinstance(total, Tensor)  # and not the 0 of no terms
    return {"loss": total, **terms}
