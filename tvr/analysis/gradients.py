"""Figures 2, 4 and 7: what positives and negatives want of each dimension, and what is left.

With G_ij = ∂L_nce/∂s_ij, for anchor i "positive" is the part of the pair j = i and "negative" that
of all pairs j ≠ i:

    on t:     Σ_j G_ij ∂s_ij/∂t_i          pooling and ψ included; words, where ψ has them, fixed
    on x^Δ:   Σ_j G_ij ∂s_ij/∂x^Δ_ij       x^Δ = x + Δ, the corrected side; Δ and pooling fixed
    on Δ:     Σ_j ∂L/∂Δ_ij                 of the whole loss with its regularisers; pooling fixed

Dropout is off. The first two are parts of the gradient of L_nce: their sum is that gradient.

Shapes: A anchors and their videos, B = A, D embedding width, N anchors of all batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tvr.analysis.drawing import BLACK, COLOURS, NEGATIVE, POSITIVE, label, panels
from tvr.analysis.result import Cell, Result
from tvr.analysis.subject import Request
from tvr.models.losses import LossSettings, duplicate_videos, info_nce, total_loss
from tvr.models.score import Scorer
from tvr.step import Features

NAME = "gradients"
TEXT, CORRECTED, DELTA = "text", "corrected", "delta"
SUM, CANCELLED = "sum", "cancelled"
STYLES = {
    POSITIVE: {"color": COLOURS[POSITIVE], "marker": "^"},
    NEGATIVE: {"color": COLOURS[NEGATIVE], "marker": "v"},
    SUM: {"color": BLACK, "marker": "."},
}


@dataclass(frozen=True)
class Parts:
    """The gradient of each anchor: what its positive gives, and what its negatives give."""

    positive_ND: Tensor
    negative_ND: Tensor

    @property
    def sum_ND(self) -> Tensor:
        return self.positive_ND + self.negative_ND

    def by_name(self) -> dict[str, Tensor]:
        return {POSITIVE: self.positive_ND, NEGATIVE: self.negative_ND, SUM: self.sum_ND}

    def cancelled(self) -> Tensor:
        """1 − ‖sum‖ / (‖positive‖ + ‖negative‖) per anchor, (N,): 0 if nothing, 1 if all of it."""
        whole_N = self.positive_ND.norm(dim=-1) + self.negative_ND.norm(dim=-1)
        return 1 - self.sum_ND.norm(dim=-1) / whole_N.clamp_min(torch.finfo(whole_N.dtype).tiny)


def pair_weights(sim_AB: Tensor, scale: Tensor, ignore_AB: Tensor | None) -> Tensor:
    """G_ij = ∂L_nce/∂s_ij, (A, B)."""
    sim_AB = sim_AB.detach().requires_grad_()
    return torch.autograd.grad(info_nce(sim_AB, scale, ignore_AB), sim_AB)[0]


def batch_parts(
    model: Scorer, features: Features, video_B: Tensor, settings: LossSettings
) -> dict[str, Parts]:
    """The parts of the gradient on t, and where there is a Δ on x^Δ and on Δ, for one batch.

    `video_B` tells the files of the videos apart. Features need no gradients.
    """
    text, video, scale = features
    text_AD = text.text_AD.detach().requires_grad_()
    scores = model.score(replace(text, text_AD=text_AD), video)
    ignore_AB = duplicate_videos(video_B) if settings.same_video == "ignore" else None
    weighted_AB = pair_weights(scores.sim_AB, scale, ignore_AB) * scores.sim_AB
    own_AB = torch.eye(len(text_AD), dtype=torch.bool, device=text_AD.device)
    # row i has no other text than t_i, so that its part of the sum is all there is on t_i
    on_text = [
        torch.autograd.grad(weighted_AB[pairs].sum(), text_AD, retain_graph=True)[0]
        for pairs in (own_AB, ~own_AB)
    ]
    found = {TEXT: Parts(*on_text)}
    if scores.delta_ABD is not None:
        # ∂x^Δ_ij/∂Δ_ij is 1, so the gradient on Δ_ij through the score is the one on x^Δ_ij
        found[CORRECTED] = of_pairs(weighted_AB.sum(), scores.delta_ABD, own_AB)
        terms = total_loss(scores.sim_AB, scores.delta_ABD, scale, video_B, settings)
        found[DELTA] = of_pairs(terms["loss"], scores.delta_ABD, own_AB)
    return found


def of_pairs(loss: Tensor, delta_ABD: Tensor, own_AB: Tensor) -> Parts:
    """The gradients on every pair's Δ_ij, added up over the anchor's positive and negatives."""
    (grad_ABD,) = torch.autograd.grad(loss, delta_ABD, retain_graph=True)
    others_ABD = grad_ABD.masked_fill(own_AB[..., None], 0)
    return Parts(grad_ABD[own_AB], others_ABD.sum(dim=1))


def make(request: Request) -> Result:
    """Means and variances over anchors of every dimension, and how much of it cancels.

    Raises:
        UserError: no such checkpoint or data, or a video cannot be read.
    """
    subject = request.subject
    split = subject.split(request.split or "train")
    settings = subject.config.loss_settings()
    batches = [
        batch_parts(subject.model, subject.features(batch), batch.video_B, settings)
        for batch in subject.batches(split, request.batches)
    ]
    parts = {
        on: Parts(
            torch.cat([batch[on].positive_ND for batch in batches]),
            torch.cat([batch[on].negative_ND for batch in batches]),
        )
        for on in batches[0]
    }
    anchors = len(parts[TEXT].positive_ND)
    said = [f"{anchors} anchors of {split.name}, {len(batches)} batches; {subject.file.name}"]
    said += [f"on {names(request)[on]}: {of(p):.1%} cancelled" for on, p in parts.items()]
    return Result(NAME, table(parts), draw(parts, names(request), said[0]), said)


def names(request: Request) -> dict[str, str]:
    """What the gradients are on, as it is written in pictures."""
    side = "t" if request.subject.config.correct == "text" else "v"
    return {TEXT: "t", CORRECTED: f"{side}^Δ", DELTA: "Δ"}


def of(parts: Parts) -> float:
    """The mean over anchors of how much cancels."""
    return float(parts.cancelled().mean())


def table(parts: dict[str, Parts]) -> list[tuple[Cell, ...]]:
    """Mean and unbiased variance over anchors, a row a dimension and part.

    The rows of part `cancelled` have no dimension.
    """
    rows: list[tuple[Cell, ...]] = [("on", "part", "dimension", "mean", "variance")]
    for on, these in parts.items():
        for part, values_ND in these.by_name().items():
            moments = zip(values_ND.mean(0).tolist(), values_ND.var(0).tolist(), strict=True)
            rows += [(on, part, d, mean, variance) for d, (mean, variance) in enumerate(moments)]
        cancelled_N = these.cancelled()
        rows.append((on, CANCELLED, "", float(cancelled_N.mean()), float(cancelled_N.var())))
    return rows


def draw(parts: dict[str, Parts], named: dict[str, str], title: str) -> Figure:
    """A row of panels for each kind; dimensions in the order of the positives' mean."""
    figure, axes = panels(len(parts), 2, f"Gradients per dimension\n{title}")
    for row, (on, these) in zip(axes, parts.items(), strict=True):
        order = these.positive_ND.mean(dim=0).argsort(stable=True)
        for part, values_ND in these.by_name().items():
            style = {**STYLES[part], "linestyle": "none", "markersize": 3, "label": part}
            row[0].plot(values_ND.mean(dim=0)[order].tolist(), **style)
            row[1].plot(values_ND.var(dim=0)[order].tolist(), **style)
        row[1].set_yscale("log")
        x = "dimensions by the positives' mean"
        label(row[0], f"on {named[on]}: mean over anchors, {of(these):.0%} cancelled", x)
        label(row[1], f"on {named[on]}: variance over anchors", x)
    return figure
