"""GARE: CLIP's encoders and the module over time, on top of which `score.py` compares.

Shapes: A texts, B videos, F frames, L tokens, D embedding width, C channels, H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tvr.models.clip import Backbone, frame_features, image_stem, project, text_tower, token_states
from tvr.models.score import ModelSettings, Scorer, TextFeatures, VideoFeatures
from tvr.models.temporal import SeqLSTM, SeqTransf


class GARE(Scorer):
    """CLIP, a temporal module, ψ, and text-conditioned pooling.

    With `increment="none"` it is the paper's baseline: the same model with Δ = 0 and no ψ.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        settings: ModelSettings,
        dropout: float = 0.3,
        psi_init: str = "normal",
    ) -> None:
        """`psi_init` is how ψ starts, see `Increment.start`."""
        # drawn before ψ, so that a seed means the same weights with and without ψ
        temporal = temporal_module(settings, backbone)
        super().__init__(settings, backbone.width, dropout)
        self.backbone = backbone
        self.clip = backbone.model
        self.temporal = temporal
        self.register_buffer("pixel_mean", _channels(backbone.mean), persistent=False)
        self.register_buffer("pixel_std", _channels(backbone.std), persistent=False)
        self._initialise()
        if self.psi is not None:
            self.psi.start(psi_init)
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

    def encode_video(self, frames_NCHW: Tensor, mask_BF: Tensor) -> VideoFeatures:
        """Features of clips given as the uint8 pixels of their real frames, one after another.

        `mask_BF` is True where a clip has a frame, N times in all. Padded frames get the feature 0;
        with `padding="release"` that of a blank frame (all zero after normalisation).
        """
        pixels_NCHW = self._normalise(frames_NCHW)
        if self.settings.padding == "release":
            pixels_NCHW = torch.cat([pixels_NCHW, torch.zeros_like(pixels_NCHW[:1])])
        features_ND = frame_features(self.clip, pixels_NCHW)
        if self.settings.padding == "release":
            features_ND, padding_D = features_ND[:-1], features_ND[-1]
        else:
            padding_D = torch.zeros_like(features_ND[0])
        # Counted and not looked up: to ask a GPU for places would wait for it
        place_BF = (mask_BF.flatten().cumsum(0) - 1).clamp_min(0).view_as(mask_BF)
        frames_BFD = torch.where(mask_BF[..., None], features_ND[place_BF], padding_D)
        if self.temporal is not None:
            frames_BFD = self.temporal(frames_BFD, mask_BF)
        return VideoFeatures(frames_BFD.float(), mask_BF)

    def _normalise(self, pixels_NCHW: Tensor) -> Tensor:
        return (pixels_NCHW.float() / 255 - self.pixel_mean) / self.pixel_std

    def checkpoint_activations(self) -> None:
        """Compute the layers' inner activations again in the backward pass instead of keeping them.

        That of the frame transformer as well as of CLIP's towers.
        """
        self.clip.set_grad_checkpointing(True)
        if isinstance(self.temporal, SeqTransf):
            self.temporal.transformer.grad_checkpointing = True

    def compile_towers(self) -> None:
        """Hand CLIP's towers and the frame transformer to torch.compile.

        Names and weights stay. Captions differ in length and batches in their number of frames:
        the text tower is compiled for every length, the others for every number once it changes.
        """
        self.clip.visual.compile()
        text_tower(self.clip).transformer.compile(dynamic=True)
        if self.temporal is not None:
            self.temporal.compile()

    def encode(
        self, tokens_AL: Tensor, frames_NCHW: Tensor, mask_BF: Tensor
    ) -> tuple[TextFeatures, VideoFeatures, Tensor]:
        """Features of texts and clips, and the factor on the score in the loss."""
        text, video = self.encode_text(tokens_AL), self.encode_video(frames_NCHW, mask_BF)
        return text, video, self.clip.logit_scale.exp()


class Encoders(nn.Module):
    """`GARE.encode` as a module that holds the encoders' parameters and not ψ's."""

    def __init__(self, model: GARE) -> None:
        super().__init__()
        self.clip, self.temporal = model.clip, model.temporal
        self._encode = model.encode

    def forward(
        self, tokens_AL: Tensor, frames_NCHW: Tensor, mask_BF: Tensor
    ) -> tuple[TextFeatures, VideoFeatures, Tensor]:
        return self._encode(tokens_AL, frames_NCHW, mask_BF)


def temporal_module(settings: ModelSettings, backbone: Backbone) -> nn.Module | None:
    """The module over the frames of a clip that `agg_module` names."""
    if settings.agg_module == "seqTransf":
        positions = backbone.model.context_length
        return SeqTransf(backbone.width, settings.num_hidden_layers, positions)
    return SeqLSTM(backbone.width) if settings.agg_module == "seqLSTM" else None


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)
