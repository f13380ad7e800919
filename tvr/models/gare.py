"""GARE: CLIP's encoders and the module over time, on top of which `score.py` compares.

Shapes: A texts, B videos, F frames, L tokens, D embedding width, C channels, H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tvr.models.clip import Backbone, frame_features, image_stem, project, token_states
from tvr.models.score import ModelSettings, PairScores, Scorer, TextFeatures, VideoFeatures
from tvr.models.temporal import SeqLSTM, SeqTransf
from tvr.utils.distributed import gather_with_grad


class GARE(Scorer):
    """CLIP, a temporal module, ψ, and text-conditioned pooling.

    With `increment="none"` it is the paper's baseline: the same model with Δ = 0 and no ψ.
    """

    def __init__(self, backbone: Backbone, settings: ModelSettings, dropout: float = 0.3) -> None:
        # drawn before ψ, so that a seed means the same weights with and without ψ
        temporal = temporal_module(settings, backbone)
        super().__init__(settings, backbone.width, dropout)
        self.backbone = backbone
        self.clip = backbone.model
        self.temporal = temporal
        self.register_buffer("pixel_mean", _channels(backbone.mean), persistent=False)
        self.register_buffer("pixel_std", _channels(backbone.std), persistent=False)
        self._initialise()
        image_stem(self.clip).requires_grad_(False)

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


def temporal_module(settings: ModelSettings, backbone: Backbone) -> nn.Module | None:
    """The module over the frames of a clip that `agg_module` names."""
    if settings.agg_module == "seqTransf":
        positions = backbone.model.context_length
        return SeqTransf(backbone.width, settings.num_hidden_layers, positions)
    return SeqLSTM(backbone.width) if settings.agg_module == "seqLSTM" else None


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)
