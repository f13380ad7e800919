"""The score of every text with every video without an increment per pair.

The same numbers as `Scorer.score`, up to rounding, for some three dot products per context vector
and pair: `tvr/models/folding.py` says why that is exact. `Scorer.score` stays the definition.

Shapes: A texts, B videos, F frames, L tokens, D embedding width. Inner products are named after
their two vectors: t text, v frame, p pooled video, d increment Δ, and of ψ's folded form k key,
m value, u and b constants; so `tv_BFA` is t·v of every video, frame and text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tvr.models.folding import Context, FoldedIncrement, weighted
from tvr.models.increment import Increment
from tvr.models.pooling import mean_frame
from tvr.models.score import Scorer, TextFeatures, VideoFeatures

TEXTS_PER_BLOCK = 1024
NUMBERS_PER_BLOCK = 2**20  # of the largest intermediate, so that it stays in a CPU's cache
SMALLEST = 1e-16  # squared length that a cosine divides by


@dataclass(frozen=True)
class Texts:
    """A block of texts made ready, once for all videos; `context` where ψ attends to words.

    Context vectors times `asks_AD` give t's part of the attention logits, times `values_AD` and
    plus `tm_A1` its products with m.
    """

    text_AD: Tensor
    centred_AD: Tensor
    square_A: Tensor
    asks_AD: Tensor | None = None
    values_AD: Tensor | None = None
    tm_A1: Tensor | None = None
    constants_2A: Tensor | None = None
    context: Context | None = None


@dataclass(frozen=True)
class Videos:
    """A block of videos made ready, once for all texts; `context` where ψ attends to frames.

    `pp_BFF` and `pd_BFF` give the pooled video's inner products with itself and with Σ w m from
    the weights of both; `constants_B2F` those of the frames with u and b. `asks_BD` is for the
    mean frame what `Texts.asks_AD` is for t.
    """

    frames_BFD: Tensor
    mask_BF: Tensor
    mean_BD: Tensor
    centred_BD: Tensor
    pp_BFF: Tensor
    asks_BD: Tensor | None = None
    context: Context | None = None
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


def why_literal(model: Scorer) -> str | None:
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

    def __init__(self, model: Scorer, dtype: torch.dtype = torch.float32) -> None:
        assert why_literal(model) is None
        self.settings, self.dtype = model.settings, dtype
        self.psi = None if model.psi is None else FoldedIncrement(model.psi, dtype)
        self.masked = model.settings.padding == "mask"
        # the query is η(v̄ − t), or t itself
        gap = model.settings.query == "gap"
        self.sign_t, self.sign_v = (-model.settings.eta, model.settings.eta) if gap else (1, 0)

    @torch.no_grad()
    def __call__(self, text: TextFeatures, batches: Sequence[VideoFeatures]) -> Tensor:
        """sim_AB with the videos of all `batches` after one another.

        Memory beyond the features and the result is bounded by the block. Blocks end where
        batches end, so that a batch's scores do not depend on the batches around it.
        """
        with torch.autocast(text.text_AD.device.type, enabled=False):
            if self.psi is not None and self.settings.context == "words":
                rows = slices(len(text.text_AD), self.texts_per_block(text, batches))
                return torch.cat([self._score_texts(self.texts(text[r]), batches) for r in rows])
            rows = slices(len(text.text_AD), TEXTS_PER_BLOCK)
            texts = [self.texts(text[r]) for r in rows]
            return torch.cat([self._score_batch(texts, video) for video in batches], dim=1)

    def _score_batch(self, texts: list[Texts], video: VideoFeatures) -> Tensor:
        """sim_AB of one batch, a block of videos at a time."""
        size_B = self.videos_per_block(len(texts[0].text_AD), video.mask_BF.shape[1])
        columns = []
        for rows_B in slices(len(video.mask_BF), size_B):
            videos = self.videos(video[rows_B])
            columns.append(torch.cat([self.with_frames(block, videos).T for block in texts]))
        return torch.cat(columns, dim=1)

    def _score_texts(self, texts: Texts, batches: Sequence[VideoFeatures]) -> Tensor:
        """sim_AB of one block of texts with their words, a batch at a time."""
        return torch.cat([self.with_words(texts, self.videos(video)) for video in batches], dim=1)

    @staticmethod
    def videos_per_block(texts: int, frames: int) -> int:
        """How many videos are made ready, and scored, at a time."""
        return max(1, NUMBERS_PER_BLOCK // (min(texts, TEXTS_PER_BLOCK) * frames))

    @staticmethod
    def texts_per_block(text: TextFeatures, batches: Sequence[VideoFeatures]) -> int:
        """The same for texts, where their words are the context."""
        videos = max(len(video.mask_BF) for video in batches)
        per_pair = max(text.words_ALD.shape[1:] + batches[0].mask_BF.shape[1:])
        return max(1, NUMBERS_PER_BLOCK // (videos * per_pair))

    def texts(self, text: TextFeatures) -> Texts:
        """Make texts ready."""
        text_AD = text.text_AD.to(self.dtype)
        plain = Texts(text_AD, centred(text_AD), text_AD.square().sum(dim=-1))
        if self.psi is None:
            return plain
        values_AD, tm_A1 = self.psi.times_values(text_AD)
        asks_AD = self.psi.asks(self.sign_t * text_AD)
        constants_2A = self.psi.constants_2D @ text_AD.T
        context = None
        if self.settings.context == "words":
            mask_AL = text.mask_AL if self.masked else None
            context = self.psi.context(text.words_ALD.to(self.dtype), mask_AL)
        of_psi = asks_AD, values_AD, tm_A1, constants_2A, context
        return Texts(plain.text_AD, plain.centred_AD, plain.square_A, *of_psi)

    def videos(self, video: VideoFeatures) -> Videos:
        """Make videos ready."""
        frames_BFD, mask_BF = video.frames_BFD.to(self.dtype), video.mask_BF
        mean_BD = mean_frame(frames_BFD, mask_BF, self.settings.padding)
        plain = frames_BFD, mask_BF, mean_BD, centred(mean_BD), frames_BFD @ frames_BFD.mT
        if self.psi is None:
            return Videos(*plain)
        asks_BD = self.psi.asks(self.sign_v * mean_BD)
        if self.settings.context == "words":
            return Videos(*plain, asks_BD)
        context = self.psi.context(frames_BFD, mask_BF if self.masked else None)
        return Videos(
            *plain,
            asks_BD,
            context,
            pd_BFF=frames_BFD @ context.values_NCD.mT,
            constants_B2F=self.psi.constants_2D @ frames_BFD.mT,
        )

    def with_frames(self, texts: Texts, videos: Videos) -> Tensor:
        """sim_BA where ψ attends to frames, or there is no ψ."""
        tv_BFA = times(videos.frames_BFD, texts.text_AD)
        pool_BFA = self._pooling(tv_BFA, videos.mask_BF)
        tp_BA = weighted(tv_BFA, pool_BFA)
        pp_BA = weighted(videos.pp_BFF @ pool_BFA, pool_BFA)
        if self.psi is None:
            return self._cosine(texts.square_A, Products(tp_BA, pp_BA))
        normed_BFD = videos.context.normed_NCD
        asked_BFA = times(normed_BFD, texts.asks_AD).add_(normed_BFD @ videos.asks_BD[..., None])
        step = self.psi.step(videos.context, asked_BFA, self._query_scale(texts, videos).T)
        tm_BA = weighted(times(normed_BFD, texts.values_AD), step.weights_NCM) + texts.tm_A1.T
        pu_BA, pb_BA = (videos.constants_B2F @ pool_BFA).unbind(1)
        products = Products(
            tp=tp_BA,
            pp=pp_BA,
            td=step.product(tm_BA, *texts.constants_2A),
            pd=step.product(weighted(videos.pd_BFF @ step.weights_NCM, pool_BFA), pu_BA, pb_BA),
            dd=step.square_NM,
        )
        return self._cosine(texts.square_A, products)

    def with_words(self, texts: Texts, videos: Videos) -> Tensor:
        """sim_AB where ψ attends to words."""
        tv_BFA = times(videos.frames_BFD, texts.text_AD)
        pool_BFA = self._pooling(tv_BFA, videos.mask_BF)
        pooled_ADB = (pool_BFA.mT @ videos.frames_BFD).permute(1, 2, 0)
        normed_ALD, values_ALD = texts.context.normed_NCD, texts.context.values_NCD
        asked_ALB = times(normed_ALD, videos.asks_BD).add_(normed_ALD @ texts.asks_AD[..., None])
        step = self.psi.step(texts.context, asked_ALB, self._query_scale(texts, videos))
        tm_A1L = (values_ALD @ texts.text_AD[..., None]).mT
        pu_AB, pb_AB = (self.psi.constants_2D @ pooled_ADB).unbind(1)
        products = Products(
            tp=weighted(tv_BFA, pool_BFA).T,
            pp=pooled_ADB.square().sum(dim=1),
            td=step.product((tm_A1L @ step.weights_NCM).squeeze(1), *texts.constants_2A[..., None]),
            pd=step.product(weighted(values_ALD @ pooled_ADB, step.weights_NCM), pu_AB, pb_AB),
            dd=step.square_NM,
        )
        return self._cosine(texts.square_A[:, None], products)

    def _pooling(self, tv_BFA: Tensor, mask_BF: Tensor) -> Tensor:
        """The weights of `pool_frames`."""
        if not self.masked:
            return (tv_BFA / self.settings.temp).softmax(dim=1) * mask_BF[..., None]
        bias_BF = tv_BFA.new_zeros(mask_BF.shape).masked_fill(~mask_BF, float("-inf"))
        return torch.add(bias_BF[..., None], tv_BFA, alpha=1 / self.settings.temp).softmax(dim=1)

    def _query_scale(self, texts: Texts, videos: Videos) -> Tensor:
        """1/σ of every query in ψ's first LayerNorm, (A, B)."""
        t_AD, v_BD = texts.centred_AD, videos.centred_BD
        variance_AB = t_AD.square().mean(dim=-1)[:, None].expand(-1, len(v_BD))
        if self.settings.query == "gap":
            cross_AB = t_AD @ v_BD.T * (2 / t_AD.shape[-1])
            variance_AB = variance_AB + v_BD.square().mean(dim=-1) - cross_AB
        return (variance_AB + self.psi.eps_in).rsqrt()

    def _cosine(self, tt: Tensor, of: Products) -> Tensor:
        top, text, video = of.tp, tt, of.pp
        if of.dd is not None and self.settings.correct == "text":
            top, text = top + of.pd, text + 2 * of.td + of.dd
        elif of.dd is not None:
            top, video = top + of.td, video + 2 * of.pd + of.dd
        return top * (text.clamp_min(SMALLEST) * video.clamp_min(SMALLEST)).rsqrt()


def centred(rows_ND: Tensor) -> Tensor:
    """Every row without its mean over D."""
    return rows_ND - rows_ND.mean(dim=-1, keepdim=True)


def times(context_NCD: Tensor, others_MD: Tensor) -> Tensor:
    """All inner products, (N, C, M), as one matrix product."""
    return (context_NCD.flatten(0, 1) @ others_MD.T).unflatten(0, context_NCD.shape[:2])
