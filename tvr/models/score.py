"""The similarity of every text with every video, from their features: Δ, pooling and cosine.

Shapes: A texts, B videos, F frames, L tokens, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvr.models.increment import Increment
from tvr.models.pooling import mean_frame, pool_frames
from tvr.models.training_increment import training_increments


@dataclass(frozen=True)
class ModelSettings:
    """What decides the model's shape and its score; the field names are the command line's flags.

    A checkpoint carries them, so that it is evaluated as it was trained.
    """

    base_encoder: str = "ViT-B/32"
    agg_module: str = "seqTransf"
    num_hidden_layers: int = 4
    increment: str = "gare"
    query: str = "gap"
    correct: str = "text"
    context: str = "frames"
    eta: int = 1
    temp: float = 5.0
    padding: str = "mask"


@dataclass(frozen=True)
class TextFeatures:
    """Text features at the end token, and projected word features where ψ attends to words."""

    text_AD: Tensor
    words_ALD: Tensor | None
    mask_AL: Tensor

    def __getitem__(self, rows: slice) -> TextFeatures:
        words = None if self.words_ALD is None else self.words_ALD[rows]
        return TextFeatures(self.text_AD[rows], words, self.mask_AL[rows])


@dataclass(frozen=True)
class VideoFeatures:
    """Frame features after the temporal module; mask is True for real frames."""

    frames_BFD: Tensor
    mask_BF: Tensor

    def __getitem__(self, rows: slice | Tensor) -> VideoFeatures:
        return VideoFeatures(self.frames_BFD[rows], self.mask_BF[rows])

    def to(self, device: torch.device | str) -> VideoFeatures:
        """The features on `device`."""
        return VideoFeatures(self.frames_BFD.to(device), self.mask_BF.to(device))


@dataclass(frozen=True)
class PairScores:
    """sim_AB is the cosine s_ij in [-1, 1]; delta_ABD is None for the baseline.

    pooled_ABD is the pooled video p_ij before any correction, where the score makes it.
    """

    sim_AB: Tensor
    delta_ABD: Tensor | None
    pooled_ABD: Tensor | None = None


class Scorer(nn.Module):
    """ψ and the score, without the encoders.

    With `increment="none"` it is the paper's baseline: the same model with Δ = 0 and no ψ.
    """

    def __init__(self, settings: ModelSettings, width: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.settings = settings
        self.psi = None
        if settings.increment == "gare":
            self.psi = Increment(width, dropout, text_dim=int(settings.context == "frames"))

    @property
    def needs_words(self) -> bool:
        """Whether ψ attends to words, so that word features are wanted."""
        return self.psi is not None and self.settings.context == "words"

    def increments(self, text: TextFeatures, video: VideoFeatures) -> Tensor:
        """Δ_ij = ψ(gap_ij, context) with gap_ij = η·(v̄_j − t_i); `query="text"` asks with t_i."""
        s = self.settings
        assert self.psi is not None
        mean_BD = mean_frame(video.frames_BFD, video.mask_BF, s.padding)
        query_ABD = text.text_AD[:, None].expand(-1, len(mean_BD), -1)
        if s.query == "gap":
            query_ABD = s.eta * (mean_BD[None] - query_ABD)
        masked = s.padding == "mask"
        if s.context == "words":
            assert text.words_ALD is not None
            return self.psi(query_ABD, text.words_ALD, text.mask_AL if masked else None)
        by_video_BAD = query_ABD.transpose(0, 1)
        delta_BAD = self.psi(by_video_BAD, video.frames_BFD, video.mask_BF if masked else None)
        return delta_BAD.transpose(0, 1)

    def increments_folded(self, text: TextFeatures, video: VideoFeatures) -> Tensor:
        """`increments` without the products with D x D matrices that dropout leaves alone."""
        s = self.settings
        assert self.psi is not None
        mean_BD = mean_frame(video.frames_BFD, video.mask_BF, s.padding)
        # the query is the sum of what it takes from the text and what it takes from the video
        ask_AD, ask_BD = text.text_AD, torch.zeros_like(mean_BD)
        if s.query == "gap":
            ask_AD, ask_BD = -s.eta * text.text_AD, s.eta * mean_BD
        masked = s.padding == "mask"
        if s.context == "words":
            assert text.words_ALD is not None
            mask_AL = text.mask_AL if masked else None
            return training_increments(self.psi, ask_AD, ask_BD, text.words_ALD, mask_AL)
        mask_BF = video.mask_BF if masked else None
        delta_BAD = training_increments(self.psi, ask_BD, ask_AD, video.frames_BFD, mask_BF)
        return delta_BAD.transpose(0, 1)

    def score_by_mean(self, text: TextFeatures, video: VideoFeatures) -> PairScores:
        """cos(t_i, v̄_j): plain CLIP on the mean frame, without Δ (zero-shot evaluation)."""
        mean_BD = mean_frame(video.frames_BFD, video.mask_BF, self.settings.padding)
        sim_AB = F.normalize(text.text_AD, dim=-1) @ F.normalize(mean_BD, dim=-1).T
        return PairScores(sim_AB, None)

    def score(self, text: TextFeatures, video: VideoFeatures, folded: bool = False) -> PairScores:
        """s_ij = cos(t_i + Δ_ij, p_ij); with `correct="video"` cos(t_i, p_ij + Δ_ij).

        `folded` computes Δ by `increments_folded`: the same up to rounding, and faster.
        """
        s = self.settings
        pooled_ABD = pool_frames(
            text.text_AD, video.frames_BFD, video.mask_BF, s.temp, padding=s.padding
        )
        text_ABD, video_ABD = text.text_AD[:, None], pooled_ABD
        delta_ABD = None
        if self.psi is not None:
            increments = self.increments_folded if folded else self.increments
            delta_ABD = increments(text, video)
            if s.correct == "text":
                text_ABD = text_ABD + delta_ABD
            else:
                video_ABD = pooled_ABD + delta_ABD
        return PairScores(cosine(text_ABD, video_ABD), delta_ABD, pooled_ABD)


def cosine(x: Tensor, y: Tensor, epsilon: float = 1e-8) -> Tensor:
    """cos(x, y) over the last dimension, with norms of at least `epsilon`.

    From inner products: training keeps no normalised copy of either for its gradient.
    """
    dot = torch.linalg.vecdot
    squares = dot(x, x).clamp_min(epsilon**2) * dot(y, y).clamp_min(epsilon**2)
    return dot(x, y) * squares.rsqrt()
