"""The score of every text with every video without an increment per pair.

The same numbers as `GARE.score`, up to rounding, for some three dot products per context vector
and pair: `tvr/models/folding.py` says why that is exact. `GARE.score` stays the definition.

Shapes: A texts, B videos, F frames, L tokens, D embedding width. Inner products are named after
their two vectors: t text, v frame, p pooled video, d increment Δ, and of ψ's folded form k key,
m value, u and b constants; so `tv_BFA` is t·v of every video, frame and text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tvr.models.folding import Context, FoldedIncrement
from tvr.models.gare import GARE, TextFeatures, VideoFeatures
from tvr.models.increment import Increment
from tvr.models.pooling import mean_frame

TEXTS_PER_BLOCK = 1024
NUMBERS_PER_BLOCK = 2**20  # of the largest intermediate, so that it stays in a CPU's cache
SMALLEST = 1e-16  # squared length that a cosine divides by


@dataclass(frozen=True)
class Videos:
    """A block of videos made ready, once for all texts; ψ's part where it attends to frames.

    `pp_BFF` and `pd_BFF` give the pooled video's inner products with itself and with Σ w m from
    the weights of both; `constants_B2F` those of the frames with u and b.
    """

    frames_BFD: Tensor
    mask_BF: Tensor
    mean_BD: Tensor
    pp_BFF: Tensor
    context: Context | None = None
    vectors_BCD: Tensor | None = None
    kv_BF: Tensor | None = None
    pd_BFF: Tensor | None = None
    constants_B2F: Tensor | None = None


@dataclass(frozen=True)
class Products:
    """What the cosine of corrected vectors is made of, per pair; without d for the baseline."""

    tp: Tensor
    pp: Tensor
    td: Tensor | None = None
    pd: Tensor | None = None
    dd: Tensor | None = None


def why_literal(model: GARE) -> str | None:
    """Why the fast form does not apply to `model`; None where it does."""
    if model.psi is not None and type(model.psi) is not Increment:
        return f"ψ is a {type(model.psi).__name__}, which this form is not made for"
    return None


def slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


class FastScore:
    """Scores all texts with all videos. It keeps the weights as they are when it is made.

    `why_literal(model)` has to be None. Dropout is off, whatever the model's mode is.
    """

    def __init__(self, model: GARE, dtype: torch.dtype = torch.float32) -> None:
        assert why_literal(model) is None
        self.settings, self.dtype = model.settings, dtype
        self.psi = None if model.psi is None else FoldedIncrement(model.psi, dtype)
        self.masked = model.settings.padding == "mask"

    @torch.no_grad()
    def __call__(self, text: TextFeatures, batches: Sequence[VideoFeatures]) -> Tensor:
        """sim_AB with the videos of all `batches` after one another.

        Memory beyond the features and the result is bounded by the block. Blocks end where
        batches end, so that a batch's scores do not depend on the batches around it.
        """
        with torch.autocast(text.text_AD.device.type, enabled=False):
            if self.psi is not None and self.settings.context == "words":
                return self._text_by_text(text, batches)
            return torch.cat([self._video_by_video(text, video) for video in batches], dim=1)

    def _video_by_video(self, text: TextFeatures, video: VideoFeatures) -> Tensor:
        text_AD = text.text_AD.to(self.dtype)
        size_A = min(TEXTS_PER_BLOCK, len(text_AD))
        size_B = max(1, NUMBERS_PER_BLOCK // (size_A * video.mask_BF.shape[1]))
        sim_BA = text_AD.new_empty(len(video.mask_BF), len(text_AD))
        for rows_B in slices(len(sim_BA), size_B):
            videos = self.videos(video[rows_B])
            for rows_A in slices(len(text_AD), size_A):
                sim_BA[rows_B, rows_A] = self.with_frames(text_AD[rows_A], videos)
        return sim_BA.T

    def _text_by_text(self, text: TextFeatures, batches: Sequence[VideoFeatures]) -> Tensor:
        most = max(len(video.mask_BF) for video in batches)
        per_pair = max(text.words_ALD.shape[1:] + batches[0].mask_BF.shape[1:])
        size_A = max(1, NUMBERS_PER_BLOCK // (per_pair * most))
        rows = []
        for rows_A in slices(len(text.text_AD), size_A):
            part = text[rows_A]
            context = self.psi.context(
                part.words_ALD.to(self.dtype), part.mask_AL if self.masked else None
            )
            text_AD = part.text_AD.to(self.dtype)
            blocks = [self.with_words(text_AD, context, self.videos(video)) for video in batches]
            rows.append(torch.cat(blocks, dim=1))
        return torch.cat(rows)

    def videos(self, video: VideoFeatures) -> Videos:
        """Make videos ready."""
        frames_BFD, mask_BF = video.frames_BFD.to(self.dtype), video.mask_BF
        mean_BD = mean_frame(frames_BFD, mask_BF, self.settings.padding)
        gram_BFF = frames_BFD @ frames_BFD.mT
        if self.psi is None or self.settings.context == "words":
            return Videos(frames_BFD, mask_BF, mean_BD, gram_BFF, vectors_BCD=frames_BFD)
        context = self.psi.context(frames_BFD, mask_BF if self.masked else None)
        return Videos(
            *(frames_BFD, mask_BF, mean_BD, gram_BFF, context),
            vectors_BCD=torch.cat((frames_BFD, context.keys_NCD, context.values_NCD), dim=1),
            kv_BF=(context.keys_NCD @ mean_BD[..., None]).squeeze(-1),
            pd_BFF=frames_BFD @ context.values_NCD.mT,
            constants_B2F=self.psi.constants_2D @ frames_BFD.mT,
        )

    def with_frames(self, text_AD: Tensor, videos: Videos) -> Tensor:
        """sim_BA where ψ attends to frames, or there is no ψ."""
        products_BCA = (videos.vectors_BCD.flatten(0, 1) @ text_AD.T).unflatten(
            0, videos.vectors_BCD.shape[:2]
        )
        frames = videos.mask_BF.shape[1]
        tv_BFA, *of_psi = products_BCA.split(frames, dim=1)
        pool_BFA = self._pooling(tv_BFA, videos.mask_BF)
        tp_BA = weighted(tv_BFA, pool_BFA)
        pp_BA = weighted(videos.pp_BFF @ pool_BFA, pool_BFA)
        tt_A = text_AD.square().sum(dim=-1)
        if self.psi is None:
            return self._cosine(tt_A, Products(tp_BA, pp_BA))
        tk_BFA, tm_BFA = of_psi
        logits_BFA = tk_BFA
        if self.settings.query == "gap":
            logits_BFA = self.settings.eta * (videos.kv_BF[..., None] - tk_BFA)
        scale_BA = self._query_scale(text_AD, videos.mean_BD).T
        step = self.psi.step(videos.context, logits_BFA * scale_BA[:, None])
        tu_A, tb_A = self.psi.constants_2D @ text_AD.T
        pu_BA, pb_BA = (videos.constants_B2F @ pool_BFA).unbind(1)
        products = Products(
            tp=tp_BA,
            pp=pp_BA,
            td=step.product(weighted(tm_BFA, step.weights_NCM), tu_A, tb_A),
            pd=step.product(weighted(videos.pd_BFF @ step.weights_NCM, pool_BFA), pu_BA, pb_BA),
            dd=step.square_NM,
        )
        return self._cosine(tt_A, products)

    def with_words(self, text_AD: Tensor, context: Context, videos: Videos) -> Tensor:
        """sim_AB where ψ attends to words."""
        tv_BFA = videos.frames_BFD @ text_AD.T
        pool_BFA = self._pooling(tv_BFA, videos.mask_BF)
        pooled_ADB = (pool_BFA.mT @ videos.frames_BFD).permute(1, 2, 0)
        tk_AL1 = context.keys_NCD @ text_AD[..., None]
        logits_ALB = tk_AL1.expand(-1, -1, len(videos.mean_BD))
        if self.settings.query == "gap":
            logits_ALB = self.settings.eta * (context.keys_NCD @ videos.mean_BD.T - tk_AL1)
        step = self.psi.step(
            context, logits_ALB * self._query_scale(text_AD, videos.mean_BD)[:, None]
        )
        tm_AL1 = context.values_NCD @ text_AD[..., None]
        tu_A1, tb_A1 = (self.psi.constants_2D @ text_AD.T)[..., None]
        pu_AB, pb_AB = (self.psi.constants_2D @ pooled_ADB).unbind(1)
        pm_ALB = context.values_NCD @ pooled_ADB
        products = Products(
            tp=weighted(tv_BFA, pool_BFA).T,
            pp=pooled_ADB.square().sum(dim=1),
            td=step.product(weighted(tm_AL1, step.weights_NCM), tu_A1, tb_A1),
            pd=step.product(weighted(pm_ALB, step.weights_NCM), pu_AB, pb_AB),
            dd=step.square_NM,
        )
        return self._cosine(text_AD.square().sum(dim=-1, keepdim=True), products)

    def _pooling(self, tv_BFA: Tensor, mask_BF: Tensor) -> Tensor:
        """The weights of `pool_frames`."""
        logits_BFA = tv_BFA / self.settings.temp
        if self.masked:
            return logits_BFA.masked_fill(~mask_BF[..., None], float("-inf")).softmax(dim=1)
        return logits_BFA.softmax(dim=1) * mask_BF[..., None]

    def _query_scale(self, text_AD: Tensor, mean_BD: Tensor) -> Tensor:
        """1/σ of every query in ψ's first LayerNorm, (A, B)."""
        text_AD = text_AD - text_AD.mean(dim=-1, keepdim=True)
        variance_AB = text_AD.square().mean(dim=-1)[:, None].expand(-1, len(mean_BD))
        if self.settings.query == "gap":
            mean_BD = mean_BD - mean_BD.mean(dim=-1, keepdim=True)
            cross_AB = text_AD @ mean_BD.T * (2 / text_AD.shape[-1])
            variance_AB = variance_AB + mean_BD.square().mean(dim=-1) - cross_AB
        return (variance_AB + self.psi.eps_in).rsqrt()

    def _cosine(self, tt: Tensor, of: Products) -> Tensor:
        top, text, video = of.tp, tt, of.pp
        if of.dd is not None and self.settings.correct == "text":
            top, text = top + of.pd, text + 2 * of.td + of.dd
        elif of.dd is not None:
            top, video = top + of.td, video + 2 * of.pd + of.dd
        return top * (text.clamp_min(SMALLEST) * video.clamp_min(SMALLEST)).rsqrt()


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Σ over the context vectors, which are dimension 1."""
    return (values * weights).sum(dim=1)
