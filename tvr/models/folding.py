"""ψ with its linear maps multiplied out, to score pairs without an increment for each.

Between the softmax and Δ every step of ψ is linear in vectors that belong to one context, up to
one number a pair: a LayerNorm's 1/σ. So with w the attention weights over the context vectors c,

    Δ = r₃ (r₂ Σ_c w_c m_c + u) + b        r₂ = 1/σ of LN2,  r₃ = 1/σ of LN3

and both variances and ‖Δ‖² are quadratic forms in w. That is exact as long as there is no dropout;
only the rounding differs from `Increment`, which stays the definition.

Shapes: N items that own the context (videos, or texts when it is their words), M items of the
other side, C context vectors of an item, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tvr.models.increment import Increment


@dataclass(frozen=True)
class Context:
    """What ψ makes of N items' context vectors before it sees a query.

    A query q has the attention logit keys·q / σ₁ + bias, where σ₁² is the variance of q's elements.
    The forms `variance2`, `variance3` and `square` are those of LN2's variance, of LN3's and of
    ‖Σ w m‖²; `linear_N3C` holds the terms linear in w: LN3's variance, 2 m·u and 2 m·b.
    """

    keys_NCD: Tensor
    bias_NC: Tensor
    values_NCD: Tensor
    variance2_NCC: Tensor
    variance3_NCC: Tensor
    square_NCC: Tensor
    linear_N3C: Tensor
    mask_NC: Tensor | None


@dataclass(frozen=True)
class Step:
    """Δ = factor · Σ_c w_c m_c + r3 · u + b of every pair, and ‖Δ‖²."""

    weights_NCM: Tensor
    factor_NM: Tensor
    r3_NM: Tensor
    square_NM: Tensor

    def product(self, with_values: Tensor, with_u: Tensor, with_b: Tensor) -> Tensor:
        """Δ's inner product with a vector, from those of Σ_c w_c m_c, u and b."""
        return self.factor_NM * with_values + self.r3_NM * with_u + with_b


class FoldedIncrement:
    """ψ's weights, multiplied out in double precision and kept in `dtype`."""

    def __init__(self, psi: Increment, dtype: torch.dtype) -> None:
        w = {name: parameter.detach().double() for name, parameter in psi.named_parameters()}
        width = len(w["mean.bias"])
        identity = torch.eye(width, dtype=torch.double, device=w["mean.bias"].device)
        centre = identity - 1 / width  # subtracts the mean over D

        key = w["query.weight"].T @ w["key.weight"] / width**0.5
        bias = w["norm_in.bias"] @ key + w["query.bias"] @ w["key.weight"] / width**0.5
        attended = centre @ w["out.weight"] @ w["value.weight"]
        # attention weights sum to 1, so a bias may be added before they are applied
        attended_bias = centre @ (w["out.weight"] @ w["value.bias"] + w["out.bias"])
        plus_residual = identity + w["residual.weight"]
        hidden = centre @ plus_residual * w["norm_attended.weight"]
        hidden_u = centre @ (plus_residual @ w["norm_attended.bias"] + w["residual.bias"])
        last = w["mean.weight"] * w["norm_out.weight"]
        u, b = last @ hidden_u, w["mean.weight"] @ w["norm_out.bias"] + w["mean.bias"]

        maps = (centre * w["norm_in.weight"] @ key, attended, hidden @ attended)
        offsets = (torch.zeros_like(attended_bias), attended_bias, hidden @ attended_bias)
        self.norm_in, self.dtype, self.width = psi.norm_in, dtype, width
        self.eps_in = psi.norm_in.eps
        self.eps2, self.eps3 = psi.norm_attended.eps, psi.norm_out.eps
        # one product takes a context vector to its key, its share of LN2's and LN3's input, and m
        self.maps = torch.cat((*maps, last @ maps[-1])).to(dtype)
        self.offsets = torch.cat((*offsets, last @ offsets[-1])).to(dtype)
        self.key_bias_D, self.hidden_u_D = bias.to(dtype), hidden_u.to(dtype)
        self.constants_2D = torch.stack((u, b)).to(dtype)
        self.variance_u = float(hidden_u.square().mean())
        self.uu, self.ub, self.bb = float(u @ u), float(u @ b), float(b @ b)

    def context(self, context_NCD: Tensor, mask_NC: Tensor | None) -> Context:
        """Make N items' context vectors ready; `mask_NC` as in `Increment`."""
        normed_NCD = F.layer_norm(
            context_NCD,
            (self.width,),
            self.norm_in.weight.to(self.dtype),
            self.norm_in.bias.to(self.dtype),
            self.eps_in,
        )
        made_NCD = F.linear(normed_NCD, self.maps, self.offsets)
        keys_NCD, attended_NCD, hidden_NCD, values_NCD = made_NCD.chunk(4, dim=-1)
        linear3_NC = hidden_NCD @ self.hidden_u_D * (2 / self.width)
        linear_NC2 = values_NCD @ self.constants_2D.T * 2
        return Context(
            keys_NCD=keys_NCD,
            bias_NC=normed_NCD @ self.key_bias_D,
            values_NCD=values_NCD,
            variance2_NCC=attended_NCD @ attended_NCD.mT / self.width,
            variance3_NCC=hidden_NCD @ hidden_NCD.mT / self.width,
            square_NCC=values_NCD @ values_NCD.mT,
            linear_N3C=torch.stack((linear3_NC, *linear_NC2.unbind(-1)), dim=1),
            mask_NC=mask_NC,
        )

    def step(self, context: Context, logits_NCM: Tensor) -> Step:
        """Δ of every pair, from the attention logits without `bias_NC`."""
        logits_NCM = logits_NCM + context.bias_NC[..., None]
        if context.mask_NC is not None:
            logits_NCM = logits_NCM.masked_fill(~context.mask_NC[..., None], float("-inf"))
        w_NCM = logits_NCM.softmax(dim=1)
        variance_NM, mu_NM, mb_NM = (context.linear_N3C @ w_NCM).unbind(1)
        r2_NM = (quadratic(context.variance2_NCC, w_NCM) + self.eps2).rsqrt()
        variance_NM = (quadratic(context.variance3_NCC, w_NCM) * r2_NM + variance_NM) * r2_NM
        r3_NM = (variance_NM + self.variance_u + self.eps3).rsqrt()
        factor_NM = r2_NM * r3_NM
        square_NM = quadratic(context.square_NCC, w_NCM) * factor_NM + mu_NM * r3_NM + mb_NM
        alone_NM = (self.uu * r3_NM + 2 * self.ub) * r3_NM + self.bb
        return Step(w_NCM, factor_NM, r3_NM, square_NM * factor_NM + alone_NM)


def quadratic(form_NCC: Tensor, w_NCM: Tensor) -> Tensor:
    """wᵀ G w of every column w."""
    return ((form_NCC @ w_NCM) * w_NCM).sum(dim=1)
