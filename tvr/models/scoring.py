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
from itertools import accumulate

import torch
from torch import Tensor

from tvr.models.folding import Context, FoldedIncrement, centred, weighted
from tvr.models.increment import Increment
from tvr.models.pooling import mean_frame
from tvr.models.score import Scorer, TextFeatures, VideoFeatures

# Blocks are the same whatever the batches around them are, so that scores are, too
TEXTS_PER_BLOCK, VIDEOS_PER_BLOCK = 1024, 128
NUMBERS_PER_BLOCK = 2**20  # of the largest intermediate, so that it stays in a CPU's cache
SMALLEST = 1e-16  # squared length that a cosine divides by


@dataclass(frozen=True)
class TextsToFrames:
    """What ψ makes of texts where it attends to frames.

    Context vectors times `asks_AD` give t's part of the attention logits, times `values_AD` and
    plus `tm_A1` its products with m.
    """

    asks_AD: Tensor
    constants_2A: Tensor
    values_AD: Tensor
    tm_A1: Tensor


@dataclass(frozen=True)
class TextsWithWords:
    """What ψ makes of texts where it attends to their words."""

    asks_AD: Tensor
    constants_2A: Tensor
    context: Context


@dataclass(frozen=True)
class Texts:
    """A block of texts made ready, once for all videos."""

    text_AD: Tensor
    centred_AD: Tensor
    square_A: Tensor
    of_psi: TextsToFrames | TextsWithWords | None


@dataclass(frozen=True)
class VideosWithFrames:
    """What ψ makes of videos where it attends to their frames.

    `pd_BFF` gives the pooled video's inner product with Σ w m from the weights of both;
    `constants_B2F` are the frames' with u and b.
    """

    context: Context
    pd_BFF: Tensor
    constants_B2F: Tensor


@dataclass(frozen=True)
class Videos:
    """A block of videos made ready, once for all texts.

    `centred_BD` is the mean frame without its mean over D, and `asks_BD`, where there is a ψ, for
    it what `asks_AD` is for t. From `pp_BFF` and the weights follows the pooled video's square;
    where ψ attends to words, it is taken from the pooled video itself.
    """

    frames_BFD: Tensor
    mask_BF: Tensor
    centred_BD: Tensor
    asks_BD: Tensor | None = None
    pp_BFF: Tensor | None = None
    of_psi: VideosWithFrames | None = None

    def __len__(self) -> int:
        return len(self.mask_BF)


@dataclass(frozen=True)
class OfIncrement:
    """The products with d, per pair, which correct the cosine."""

    td: Tensor
    pd: Tensor
    dd: Tensor


def why_literal(model: Scorer) -> str | None:
    """Why the fast form does not apply to `model`; None where it does."""
    if model.psi is not None and type(model.psi) is not Increment:
        return f"ψ is a {type(model.psi).__name__}, which this form is not made for"
    return None


def slices(count: int, size: int) -> Iterator[slice]:
    """The rows 0 … count - 1 in blocks of `size`; the last may reach beyond them."""
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

        Memory beyond the features, the result and three vectors a text is bounded by the block.
        Blocks end where batches end, so that a batch's scores do not depend on the others.
        """
        ends = [0, *accumulate(len(video.mask_BF) for video in batches)]
        sim_AB = text.text_AD.new_empty(len(text.text_AD), ends[-1], dtype=self.dtype)
        with torch.autocast(sim_AB.device.type, enabled=False):
            if self.psi is not None and self.settings.context == "words":
                self._text_by_text(text, batches, sim_AB)
                return sim_AB
            rows_A = list(slices(len(sim_AB), TEXTS_PER_BLOCK))
            texts = [self.texts(text[rows]) for rows in rows_A]
            for video, start in zip(batches, ends, strict=False):
                size_B = self.videos_per_block(len(sim_AB), video.mask_BF.shape[1])
                for rows_B in slices(len(video.mask_BF), size_B):
                    videos = self.videos(video[rows_B])
                    columns = slice(start + rows_B.start, start + rows_B.start + len(videos))
                    for rows, block in zip(rows_A, texts, strict=True):
                        sim_AB[rows, columns] = self.with_frames(block, videos).T
        return sim_AB

    def _text_by_text(
        self, text: TextFeatures, batches: Sequence[VideoFeatures], sim_AB: Tensor
    ) -> None:
        """Fill sim_AB, a block of texts with their words at a time."""
        videos = [
            self.videos(video[rows])
            for video in batches
            for rows in slices(len(video.mask_BF), VIDEOS_PER_BLOCK)
        ]
        size_A = self.texts_per_block(text, batches[0].mask_BF.shape[1])
        for rows in slices(len(sim_AB), size_A):
            texts = self.texts(text[rows])
            sim_AB[rows] = torch.cat([self.with_words(texts, block) for block in videos], dim=1)

    @staticmethod
    def videos_per_block(texts: int, frames: int) -> int:
        """How many videos are made ready, and scored, at a time."""
        fitting = NUMBERS_PER_BLOCK // (min(texts, TEXTS_PER_BLOCK) * frames)
        return max(1, min(VIDEOS_PER_BLOCK, fitting))

    @staticmethod
    def texts_per_block(text: TextFeatures, frames: int) -> int:
        """The same for texts, where their words are the context."""
        assert text.words_ALD is not None
        per_pair = max(*text.words_ALD.shape[1:], frames)
        return max(1, NUMBERS_PER_BLOCK // (VIDEOS_PER_BLOCK * per_pair))

    def texts(self, text: TextFeatures) -> Texts:
        """Make texts ready."""
        text_AD = text.text_AD.to(self.dtype)
        plain = text_AD, centred(text_AD, dim=-1), text_AD.square().sum(dim=-1)
        if self.psi is None:
            return Texts(*plain, of_psi=None)
        asked = self.psi.asks(self.sign_t * text_AD), self.psi.constants_2D @ text_AD.T
        if self.settings.context == "frames":
            return Texts(*plain, TextsToFrames(*asked, *self.psi.times_values(text_AD)))
        assert text.words_ALD is not None
        mask_AL = text.mask_AL if self.masked else None
        context = self.psi.context(text.words_ALD.to(self.dtype), mask_AL)
        return Texts(*plain, TextsWithWords(*asked, context))

    def videos(self, video: VideoFeatures) -> Videos:
        """Make videos ready."""
        frames_BFD, mask_BF = video.frames_BFD.to(self.dtype), video.mask_BF
        mean_BD = mean_frame(frames_BFD, mask_BF, self.settings.padding)
        plain = frames_BFD, mask_BF, centred(mean_BD, dim=-1)
        if self.psi is None:
            return Videos(*plain, pp_BFF=frames_BFD @ frames_BFD.mT)
        asks_BD = self.psi.asks(self.sign_v * mean_BD)
        if self.settings.context == "words":
            return Videos(*plain, asks_BD)
        context = self.psi.context(frames_BFD, mask_BF if self.masked else None)
        pp_BFF = frames_BFD @ frames_BFD.mT
        of_psi = VideosWithFrames(
            context,
            pd_BFF=frames_BFD @ context.values_NCD.mT,
            constants_B2F=self.psi.constants_2D @ frames_BFD.mT,
        )
        return Videos(*plain, asks_BD, pp_BFF, of_psi)

    def with_frames(self, texts: Texts, videos: Videos) -> Tensor:
        """sim_BA where ψ attends to frames, or there is no ψ."""
        tv_BFA = times(videos.frames_BFD, texts.text_AD)
        pool_BFA = self._pooling(tv_BFA, videos.mask_BF)
        tp_BA = weighted(tv_BFA, pool_BFA)
        assert videos.pp_BFF is not None
        pp_BA = weighted(videos.pp_BFF @ pool_BFA, pool_BFA)
        if self.psi is None:
            return self._cosine(texts.square_A, tp_BA, pp_BA)
        t, v = texts.of_psi, videos.of_psi
        assert isinstance(t, TextsToFrames)
        assert v is not None
        assert videos.asks_BD is not None
        normed_BFD = v.context.normed_NCD
        asked_BFA = times(normed_BFD, t.asks_AD).add_(normed_BFD @ videos.asks_BD[..., None])
        step = self.psi.step(v.context, asked_BFA, self._query_scale(self.psi, texts, videos).T)
        tm_BA = weighted(times(normed_BFD, t.values_AD), step.weights_NCM) + t.tm_A1.T
        pu_BA, pb_BA = (v.constants_B2F @ pool_BFA).unbind(1)
        of_increment = OfIncrement(
            td=step.product(tm_BA, *t.constants_2A),
            pd=step.product(weighted(v.pd_BFF @ step.weights_NCM, pool_BFA), pu_BA, pb_BA),
            dd=step.square_NM,
        )
        return self._cosine(texts.square_A, tp_BA, pp_BA, of_increment)

    def with_words(self, texts: Texts, videos: Videos) -> Tensor:
        """sim_AB where ψ attends to words."""
        t = texts.of_psi
        assert self.psi is not None
        assert isinstance(t, TextsWithWords)
        assert videos.asks_BD is not None
        tv_BFA = times(videos.frames_BFD, texts.text_AD)
        pool_BFA = self._pooling(tv_BFA, videos.mask_BF)
        pooled_ADB = (pool_BFA.mT @ videos.frames_BFD).permute(1, 2, 0)
        normed_ALD, values_ALD = t.context.normed_NCD, t.context.values_NCD
        asked_ALB = times(normed_ALD, videos.asks_BD).add_(normed_ALD @ t.asks_AD[..., None])
        step = self.psi.step(t.context, asked_ALB, self._query_scale(self.psi, texts, videos))
        tm_A1L = (values_ALD @ texts.text_AD[..., None]).mT
        pu_AB, pb_AB = (self.psi.constants_2D @ pooled_ADB).unbind(1)
        of_increment = OfIncrement(
            td=step.product((tm_A1L @ step.weights_NCM).squeeze(1), *t.constants_2A[..., None]),
            pd=step.product(weighted(values_ALD @ pooled_ADB, step.weights_NCM), pu_AB, pb_AB),
            dd=step.square_NM,
        )
        tp_AB, pp_AB = weighted(tv_BFA, pool_BFA).T, pooled_ADB.square().sum(dim=1)
        return self._cosine(texts.square_A[:, None], tp_AB, pp_AB, of_increment)

    def _pooling(self, tv_BFA: Tensor, mask_BF: Tensor) -> Tensor:
        """The weights of `pool_frames`."""
        if not self.masked:
            return (tv_BFA / self.settings.temp).softmax(dim=1) * mask_BF[..., None]
        bias_BF = tv_BFA.new_zeros(mask_BF.shape).masked_fill(~mask_BF, float("-inf"))
        return torch.add(bias_BF[..., None], tv_BFA, alpha=1 / self.settings.temp).softmax(dim=1)

    def _query_scale(self, psi: FoldedIncrement, texts: Texts, videos: Videos) -> Tensor:
        """1/σ of every query in ψ's first LayerNorm, (A, B)."""
        t_AD, v_BD = texts.centred_AD, videos.centred_BD
        variance_AB = t_AD.square().mean(dim=-1)[:, None].expand(-1, len(v_BD))
        if self.settings.query == "gap":
            cross_AB = t_AD @ v_BD.T * (2 / t_AD.shape[-1])
            variance_AB = variance_AB + v_BD.square().mean(dim=-1) - cross_AB
        # rounding may take the variance of a small gap between large vectors below 0
        return (variance_AB.clamp_min(0) + psi.eps_in).rsqrt()

    def _cosine(self, tt: Tensor, tp: Tensor, pp: Tensor, d: OfIncrement | None = None) -> Tensor:
        top, text, video = tp, tt, pp
        if d is not None and self.settings.correct == "text":
            top, text = top + d.pd, text + 2 * d.td + d.dd
        elif d is not None:
            top, video = top + d.td, video + 2 * d.pd + d.dd
        cosine = top * (text.clamp_min(SMALLEST) * video.clamp_min(SMALLEST)).rsqrt()
        # where Δ takes a vector to nearly 0, its length is rounding only
        return cosine.clamp(-1, 1)


def times(context_NCD: Tensor, others_MD: Tensor) -> Tensor:
    """All inner products, (N, C, M), as one matrix product."""
    return (context_NCD.flatten(0, 1) @ others_MD.T).unflatten(0, context_NCD.shape[:2])
