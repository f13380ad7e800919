"""GARE: encoders, the pair-specific increment, and the similarity of every text with every video.

Shapes: A texts, B videos, F frames, L tokens, D embedding width, C channels, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvr.models.clip import Backbone, frame_features, image_stem, project, token_states
from tvr.models.increment import Increment
from tvr.models.pooling import mean_frame, pool_frames
from tvr.models.temporal import SeqLSTM, SeqTransf
from tvr.utils.distributed import gather_with_grad


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

    def __getitem__(self, rows: slice) -> VideoFeatures:
        return VideoFeatures(self.frames_BFD[rows], self.mask_BF[rows])


@dataclass(frozen=True)
class PairScores:
    """sim_AB is the cosine s_ij in [-1, 1]; delta_ABD is None for the baseline."""

    sim_AB: Tensor
    delta_ABD: Tensor | None


class GARE(nn.Module):
    """CLIP, a temporal module, ψ, and text-conditioned pooling.

    With `increment="none"` it is the paper's baseline: the same model with Δ = 0 and no ψ.
    """

    def __init__(self, backbone: Backbone, settings: ModelSettings, dropout: float = 0.3) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = backbone
        self.clip = backbone.model
        self.temporal = self._temporal_module(backbone)
        self.psi = Increment(backbone.width, dropout) if settings.increment == "gare" else None
        self.register_buffer("pixel_mean", _channels(backbone.mean), persistent=False)
        self.register_buffer("pixel_std", _channels(backbone.std), persistent=False)
        self._initialise()
        image_stem(self.clip).requires_grad_(False)

    @property
    def needs_words(self) -> bool:
        """Whether ψ attends to words, so that word features are wanted."""
        return self.psi is not None and self.settings.context == "words"

    def _temporal_module(self, backbone: Backbone) -> nn.Module | None:
        if self.settings.agg_module == "seqTransf":
            positions = backbone.model.context_length
            return SeqTransf(backbone.width, self.settings.num_hidden_layers, positions)
        return SeqLSTM(backbone.width) if self.settings.agg_module == "seqLSTM" else None

    def _initialise(self) -> None:
        """Every linear layer and embedding outside CLIP: N(0, 0.02), zero bias.

        The temporal module then starts as a copy of CLIP's first text blocks, where it can.
        """
        for part in (self.temporal, self.psi):
            for module in part.modules() if part is not None else ():
                if isinstance(module, nn.Linear | nn.Embedding):
                    nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)
        self.temporal_from_clip = isinstance(self.temporal, SeqTransf) and (
            self.temporal.copy_from_text_tower(getattr(self.clip, "text", self.clip))
        )

    def encode_text(self, tokens_AL: Tensor, words: bool | None = None) -> TextFeatures:
        """Features of tokenised captions: start token, words, end token, zeros.

        `words` asks for word features or not; None: where ψ attends to them.
        """
        states_ALE = token_states(self.clip, tokens_AL)
        end_A = tokens_AL.argmax(dim=1)  # the end token has the highest id of all
        mask_AL = torch.arange(tokens_AL.shape[1], device=tokens_AL.device) <= end_A[:, None]
        rows_A = torch.arange(len(tokens_AL), device=tokens_AL.device)
        text_AD = project(self.clip, states_ALE[rows_A, end_A]).float()
        words = self.needs_words if words is None else words
        words_ALD = project(self.clip, states_ALE).float() if words else None
        return TextFeatures(text_AD, words_ALD, mask_AL)

    def encode_video(self, frames_BFCHW: Tensor, mask_BF: Tensor) -> VideoFeatures:
        """Features of clips given as uint8 pixels; padded frames have mask False.

        With `padding="mask"` padded frames are not encoded and their features are 0; with
        `padding="release"` they are encoded as blank (all zero after normalisation) frames.
        """
        shape = mask_BF.shape
        if self.settings.padding == "release":
            pixels = self._normalise(frames_BFCHW) * mask_BF[..., None, None, None]
            frames_BFD = frame_features(self.clip, pixels.flatten(0, 1)).unflatten(0, shape)
        else:
            real_ND = frame_features(self.clip, self._normalise(frames_BFCHW[mask_BF]))
            frames_BFD = real_ND.new_zeros(*shape, real_ND.shape[-1])
            frames_BFD[mask_BF] = real_ND
        if self.temporal is not None:
            frames_BFD = self.temporal(frames_BFD, mask_BF)
        return VideoFeatures(frames_BFD.float(), mask_BF)

    def _normalise(self, pixels_CHW: Tensor) -> Tensor:
        return (pixels_CHW.float() / 255 - self.pixel_mean) / self.pixel_std

    def increments(self, text: TextFeatures, video: VideoFeatures) -> Tensor:
        """Δ_ij = ψ(gap_ij, context) with gap_ij = η·(v̄_j − t_i); `query="text"` asks with t_i."""
        s = self.settings
        mean_BD = mean_frame(video.frames_BFD, video.mask_BF, s.padding)
        query_ABD = text.text_AD[:, None].expand(-1, len(mean_BD), -1)
        if s.query == "gap":
            query_ABD = s.eta * (mean_BD[None] - query_ABD)
        masked = s.padding == "mask"
        if s.context == "words":
            return self.psi(query_ABD, text.words_ALD, text.mask_AL if masked else None)
        by_video_BAD = query_ABD.transpose(0, 1)
        delta_BAD = self.psi(by_video_BAD, video.frames_BFD, video.mask_BF if masked else None)
        return delta_BAD.transpose(0, 1)

    def score_by_mean(self, text: TextFeatures, video: VideoFeatures) -> PairScores:
        """cos(t_i, v̄_j): plain CLIP on the mean frame, without Δ (zero-shot evaluation)."""
        mean_BD = mean_frame(video.frames_BFD, video.mask_BF, self.settings.padding)
        sim_AB = F.normalize(text.text_AD, dim=-1) @ F.normalize(mean_BD, dim=-1).T
        return PairScores(sim_AB, None)

    def score(self, text: TextFeatures, video: VideoFeatures) -> PairScores:
        """s_ij = cos(t_i + Δ_ij, p_ij); with `correct="video"` cos(t_i, p_ij + Δ_ij)."""
        s = self.settings
        pooled_ABD = pool_frames(
            text.text_AD, video.frames_BFD, video.mask_BF, s.temp, padding=s.padding
        )
        text_ABD = text.text_AD[:, None]
        delta_ABD = None
        if self.psi is not None:
            delta_ABD = self.increments(text, video)
            if s.correct == "text":
                text_ABD = text_ABD + delta_ABD
            else:
                pooled_ABD = pooled_ABD + delta_ABD
        return PairScores(F.cosine_similarity(text_ABD, pooled_ABD, dim=-1), delta_ABD)

    def forward(
        self, tokens_AL: Tensor, frames_BFCHW: Tensor, mask_BF: Tensor
    ) -> tuple[PairScores, Tensor]:
        """Scores of the global batch, features gathered over ranks with gradients, and the scale.

        The score is computed in fp32 also where the encoders run under autocast.
        """
        text, video = self.encode_text(tokens_AL), self.encode_video(frames_BFCHW, mask_BF)
        words_ALD = None if text.words_ALD is None else gather_with_grad(text.words_ALD)
        text = TextFeatures(
            gather_with_grad(text.text_AD), words_ALD, gather_with_grad(text.mask_AL)
        )
        video = VideoFeatures(gather_with_grad(video.frames_BFD), gather_with_grad(video.mask_BF))
        with torch.autocast(tokens_AL.device.type, enabled=False):
            return self.score(text, video), self.clip.logit_scale.exp()


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)
