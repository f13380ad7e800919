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

    A query q has the attention logit c·(W q) / σ₁ + bias, where c is a row of `normed_NCD`, σ₁² the
    variance of q's elements, and W q what `FoldedIncrement.asks` makes of it. The bias is -inf
    where the mask is False. The quadratic forms are those of LN2's variance, of LN3's and of
    ‖Σ w m‖²; `linear_N3C` are the terms linear in w: of LN3's variance, 2 m·u and 2 m·b.
    """

    normed_NCD: Tensor
    bias_NC: Tensor
    values_NCD: Tensor
    variance2_NCC: Tensor
    variance3_NCC: Tensor
    square_NCC: Tensor
    linear_N3C: Tensor


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
        key = w["query.weight"].T @ w["key.weight"] / width**0.5
        bias = w["norm_in.bias"] @ key + w["query.bias"] @ w["key.weight"] / width**0.5
        attended = centred(w["out.weight"] @ w["value.weight"], dim=0)
        # attention weights sum to 1, so a bias may be added before they are applied
        attended_bias = centred(w["out.weight"] @ w["value.bias"] + w["out.bias"], dim=0)
        plus_residual = w["residual.weight"] + torch.eye(width).to(w["residual.weight"])
        hidden = centred(plus_residual * w["norm_attended.weight"], dim=0)
        hidden_u = plus_residual @ w["norm_attended.bias"] + w["residual.bias"]
        hidden_u = centred(hidden_u, dim=0)
        last = w["mean.weight"] * w["norm_out.weight"]
        u, b = last @ hidden_u, w["mean.weight"] @ w["norm_out.bias"] + w["mean.bias"]

        self.norm_in, self.dtype, self.width = psi.norm_in, dtype, width
        self.eps_in = psi.norm_in.eps
        self.eps2, self.eps3 = psi.norm_attended.eps, psi.norm_out.eps
        self.key_DD = centred(w["norm_in.weight"][:, None] * key, dim=0).to(dtype)
        self.key_bias_D, self.hidden_u_D = bias.to(dtype), hidden_u.to(dtype)
        # one product takes a context vector to its share of LN2's and of LN3's input, and to m
        maps, offsets = [attended], [attended_bias]
        for step in (hidden, last):
            maps.append(step @ maps[-1])
            offsets.append(step @ offsets[-1])
        self.maps, self.offsets = torch.cat(maps).to(dtype), torch.cat(offsets).to(dtype)
        self.constants_2D = torch.stack((u, b)).to(dtype)
        self.variance_u = float(hidden_u.square().mean())
        self.uu, self.ub, self.bb = float(u @ u), float(u @ b), float(b @ b)

    def asks(self, query_MD: Tensor) -> Tensor:
        """What queries, or terms of them, multiply context vectors with to get their logits."""
        return query_MD @ self.key_DD

    def times_values(self, vectors_MD: Tensor) -> tuple[Tensor, Tensor]:
        """What vectors multiply context vectors with to get their products with m, and an offset.

        Returns (M, D), and (M, 1) to be added.
        """
        value_DD, offset_D = self.maps[-self.width :], self.offsets[-self.width :]
        return vectors_MD @ value_DD, vectors_MD @ offset_D[:, None]

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
        attended_NCD, hidden_NCD, values_NCD = made_NCD.chunk(3, dim=-1)
        linear3_NC = hidden_NCD @ self.hidden_u_D * (2 / self.width)
        bias_NC = normed_NCD @ self.key_bias_D
        if mask_NC is not None:
            bias_NC = bias_NC.masked_fill(~mask_NC, float("-inf"))
        linear_NC2 = values_NCD @ self.constants_2D.T * 2
        return Context(
            normed_NCD=normed_NCD,
            bias_NC=bias_NC,
            values_NCD=values_NCD,
            variance2_NCC=attended_NCD @ attended_NCD.mT / self.width,
            variance3_NCC=hidden_NCD @ hidden_NCD.mT / self.width,
            square_NCC=values_NCD @ values_NCD.mT,
            linear_N3C=torch.stack((linear3_NC, *linear_NC2.unbind(-1)), dim=1),
        )

    def step(self, context: Context, asked_NCM: Tensor, scale_NM: Tensor) -> Step:
        """Δ of every pair, from the products of context vectors with W q, and 1/σ₁."""
        logits_NCM = torch.addcmul(context.bias_NC[..., None], asked_NCM, scale_NM[:, None])
        w_NCM = logits_NCM.softmax(dim=1)
        variance_NM, mu_NM, mb_NM = (context.linear_N3C @ w_NCM).unbind(1)
        r2_NM = (quadratic(context.variance2_NCC, w_NCM) + self.eps2).rsqrt()
        variance_NM = (quadratic(context.variance3_NCC, w_NCM) * r2_NM + variance_NM) * r2_NM
        r3_NM = ((variance_NM + self.variance_u).clamp_min(0) + self.eps3).rsqrt()
        factor_NM = r2_NM * r3_NM
        square_NM = quadratic(context.square_NCC, w_NCM) * factor_NM + mu_NM * r3_NM + mb_NM
        alone_NM = (self.uu * r3_NM + 2 * self.ub) * r3_NM + self.bb
        return Step(w_NCM, factor_NM, r3_NM, square_NM * factor_NM + alone_NM)


def centred(values: Tensor, dim: int) -> Tensor:
    """Without the mean over `dim`; the shape stays."""
    return values - values.mean(dim=dim, keepdim=True)


def quadratic(form_NCC: Tensor, w_NCM: Tensor) -> Tensor:
    """wᵀ G w of every column w, which only rounding could make negative."""
    return weighted(form_NCC @ w_NCM, w_NCM).clamp_min(0)


def weighted(values_NCM: Tensor, weights_NCM: Tensor) -> Tensor:
    """Σ_c weights · values. It overwrites `values`: to allocate as much again takes as long."""
    return values_NCM.mul_(weights_NCM).sum(dim=1)
