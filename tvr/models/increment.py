"""ψ: the pair-specific increment Δ, literally as in the paper.

Shapes: N items that own the context (videos when the context is their frames, texts when it is
their words), M items on the other side, F context vectors per item, D embedding width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tvr.models.dropout import DropoutByText


class Increment(nn.Module):
    """Δ = ψ(query, context): one pre-norm cross-attention layer with one head.

        q = LN1(query),  c = LN1(context)              the same LayerNorm for both
        h = LN2(W_o · Σ_f softmax_f((W_q q)·(W_k c_f) / √D) · (W_v c_f) + b_o)
        z = LN3(h + dropout(W_1 h + b_1))
        Δ = W_μ z + b_μ

    Every weight starts N(0, 0.02) and every bias at 0, so that Δ starts non-zero: at D = 512 its
    norm is near 10, the size of a CLIP feature. The paper argues that this start matters.
    """

    def __init__(self, width: int, dropout: float = 0.3, text_dim: int = 1) -> None:
        """`text_dim` is the dimension that runs over texts: 1, or 0 where the context is words."""
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm_attended = nn.LayerNorm(width)
        self.residual = nn.Linear(width, width)
        self.dropout = DropoutByText(dropout, text_dim)
        self.norm_out = nn.LayerNorm(width)
        self.mean = nn.Linear(width, width)

    @torch.no_grad()
    def start(self, how: str) -> None:
        """Other starting weights than `normal`, which all linear layers have already.

        `identity` makes every W the identity, as the authors' release does before it overwrites
        that; LN3 then gives Δ the norm √D. `zero` makes W_μ zero, so that Δ starts at 0.
        """
        assert how in ("normal", "identity", "zero"), how
        for part in self.children():
            if isinstance(part, nn.Linear) and how == "identity":
                nn.init.eye_(part.weight)
        if how == "zero":
            nn.init.zeros_(self.mean.weight)

    def forward(self, query_NMD: Tensor, context_NFD: Tensor, mask_NF: Tensor | None) -> Tensor:
        """Returns delta_NMD. `mask_NF` is True for real context vectors; None attends to all."""
        context_NFD = self.norm_in(context_NFD)
        query_NMD = self.query(self.norm_in(query_NMD))
        logits_NMF = query_NMD @ self.key(context_NFD).transpose(1, 2)
        logits_NMF = logits_NMF / math.sqrt(query_NMD.shape[-1])
        if mask_NF is not None:
            logits_NMF = logits_NMF.masked_fill(~mask_NF[:, None, :], float("-inf"))
        return self.from_attended(logits_NMF.softmax(dim=-1) @ self.value(context_NFD))

    def from_attended(self, attended_NMD: Tensor) -> Tensor:
        """delta_NMD from the attended values: all that follows the attention, from W_o on."""
        h_NMD = self.norm_attended(self.out(attended_NMD))
        z_NMD = self.norm_out(h_NMD + self.dropout(self.residual(h_NMD)))
        return self.mean(z_NMD)


class IncrementByQuery(nn.Module):
    """The same Δ as a given `Increment`, for queries that are fewer than frames.

    W_k is applied to the queries and W_v to the attended frames, so that no context vector is
    multiplied by a D x D matrix: (W_q q)·(W_k c) = (W_kᵀ W_q q)·c, and as the attention weights
    sum to 1, W_v's bias may follow them. W_k's bias adds the same to all logits of a query.
    """

    def __init__(self, psi: Increment) -> None:
        super().__init__()
        self.psi = psi

    def forward(self, query_NMD: Tensor, context_NFD: Tensor, mask_NF: Tensor | None) -> Tensor:
        """Returns delta_NMD; arguments as in `Increment`."""
        psi = self.psi
        context_NFD = psi.norm_in(context_NFD)
        query_NMD = psi.query(psi.norm_in(query_NMD)) @ psi.key.weight
        logits_NMF = query_NMD @ context_NFD.transpose(1, 2) / math.sqrt(query_NMD.shape[-1])
        if mask_NF is not None:
            logits_NMF = logits_NMF.masked_fill(~mask_NF[:, None, :], float("-inf"))
        return psi.from_attended(psi.value(logits_NMF.softmax(dim=-1) @ context_NFD))
