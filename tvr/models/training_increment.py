"""ψ for training, with the linear maps multiplied out that dropout leaves alone.

The same Δ as `Increment`'s, which stays the definition, from the same parameters and with the same
gradients, up to rounding. Only W_μ comes after dropout; the other maps need not see every pair:

* A query is the sum of a vector of each side, and LN1 divides it by one number, σ₁. So W_q and W_k
  meet the vectors of both sides, whose products with the context vectors, over σ₁, are the logits.
* Attention weights w sum to 1, and LN2 divides by one number, σ₂: with P for centring and
  o_c = P(W_o(W_v c + b_v) + b_o) it is σ₂² = Σ_cc' w_c w_c' o_c·o_c' / D + ε. So W_v, W_o and W_1
  meet the context vectors.

Shapes: N items that own the context, M items of the other side, C context vectors of an item, D
embedding width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tvr.models.folding import centred, quadratic
from tvr.models.increment import Increment


def training_increments(
    psi: Increment,
    owner_ND: Tensor,
    other_MD: Tensor,
    context_NCD: Tensor,
    mask_NC: Tensor | None,
) -> Tensor:
    """delta_NMD as `psi(owner_ND[:, None] + other_MD, context_NCD, mask_NC)` returns it.

    Dropout draws as it does there, so that the same seed gives the same Δ.
    """
    context_NCD = psi.norm_in(context_NCD)
    logits_NCM = attention_logits(psi, owner_ND, other_MD, context_NCD)
    if mask_NC is not None:
        logits_NCM = logits_NCM.masked_fill(~mask_NC[..., None], float("-inf"))
    w_NCM = logits_NCM.softmax(dim=1)

    out_DD = centred(psi.out.weight @ psi.value.weight, dim=0)
    out_NCD = F.linear(context_NCD, out_DD, centred(psi.out(psi.value.bias), dim=0))
    variance_NM = quadratic(out_NCD @ out_NCD.mT / out_NCD.shape[-1], w_NCM)
    scaled_NMC = (w_NCM * (variance_NM + psi.norm_attended.eps).rsqrt()[:, None]).mT

    scale_D, bias_D = psi.norm_attended.weight, psi.norm_attended.bias
    h_NCD = out_NCD * scale_D
    residual_NCD = F.linear(h_NCD, psi.residual.weight)
    h_NMD = torch.baddbmm(bias_D, scaled_NMC, h_NCD)
    residual_NMD = torch.baddbmm(psi.residual(bias_D), scaled_NMC, residual_NCD)
    return psi.mean(psi.norm_out(h_NMD + psi.dropout(residual_NMD)))


def attention_logits(
    psi: Increment, owner_ND: Tensor, other_MD: Tensor, context_NCD: Tensor
) -> Tensor:
    """logits_NCM of the queries owner_n + other_m with context vectors that LN1 has seen."""
    width = owner_ND.shape[-1]
    owner_ND, other_MD = centred(owner_ND, dim=-1), centred(other_MD, dim=-1)
    # From differences: where the sides nearly cancel, inner products have no digits left
    exact = "donot_use_mm_for_euclid_dist"
    variance_NM = torch.cdist(owner_ND, -other_MD, compute_mode=exact).square() / width
    r1_NM = (variance_NM + psi.norm_in.eps).rsqrt()

    query_DD = psi.query.weight * psi.norm_in.weight
    asks_ND, asks_MD = (F.linear(rows, query_DD) @ psi.key.weight for rows in (owner_ND, other_MD))
    asked_NCM = context_NCD @ asks_MD.T + context_NCD @ asks_ND[..., None]
    always_D = psi.query(psi.norm_in.bias)
    # Softmax is blind to W_k's bias; it is here to have a gradient, as literally, which is 0
    bias_NC = context_NCD @ (always_D @ psi.key.weight) + always_D @ psi.key.bias
    return (asked_NCM * r1_NM[:, None] + bias_NC[..., None]) / math.sqrt(width)
