"""The module over time that runs on frame features (`--agg_module`).

Shapes: B videos, F frames, D embedding width, H attention heads.
"""

from __future__ import annotations

from functools import partial

import torch
from open_clip.transformer import LayerNorm, QuickGELU, Transformer
from torch import Tensor, nn

from tvr.models.clip import TextTower
from tvr.utils.errors import UserError

HEAD_WIDTH = 64


class SeqTransf(nn.Module):
    """Frame position embeddings, CLIP-style residual attention blocks, and an outer residual.

    Padded frames are masked as keys. The LayerNorms' eps is 1e-12, as in the authors' release.

    Raises:
        UserError: the embedding width is no multiple of 64 (a head's width).
    """

    def __init__(self, width: int, layers: int, positions: int) -> None:
        super().__init__()
        if width % HEAD_WIDTH:
            raise UserError(
                f"--agg_module seqTransf needs an embedding width that is a multiple of "
                f"{HEAD_WIDTH}; this --base_encoder has {width}. Use --agg_module seqLSTM or None."
            )
        self.heads = width // HEAD_WIDTH
        self.position = nn.Embedding(positions, width)
        self.transformer = Transformer(
            width=width,
            layers=layers,
            heads=self.heads,
            act_layer=QuickGELU,
            norm_layer=partial(LayerNorm, eps=1e-12),
        )

    def copy_from_text_tower(self, text_tower: TextTower) -> bool:
        """Start the blocks and the position embeddings as copies of CLIP's text transformer's.

        Returns False, and copies nothing, where the shapes do not allow it.
        """
        blocks = text_tower.transformer.resblocks
        positions_PD = text_tower.positional_embedding
        own_blocks = self.transformer.resblocks
        fits = positions_PD.shape == self.position.weight.shape and len(blocks) >= len(own_blocks)
        if not fits or shapes(own_blocks[0]) != shapes(blocks[0]):
            return False
        for own, block in zip(own_blocks, blocks, strict=False):
            own.load_state_dict(block.state_dict())
        with torch.no_grad():
            self.position.weight.copy_(positions_PD)
        return True

    def forward(self, frames_BFD: Tensor, mask_BF: Tensor) -> Tensor:
        x_BFD = frames_BFD + self.position.weight[: frames_BFD.shape[1]]
        keys_BF = torch.zeros_like(mask_BF, dtype=x_BFD.dtype).masked_fill(~mask_BF, float("-inf"))
        # nn.MultiheadAttention takes one mask per video and head, heads fastest
        mask_BHFF = keys_BF[:, None, None, :].expand(-1, self.heads, mask_BF.shape[1], -1)
        return self.transformer(x_BFD, attn_mask=mask_BHFF.flatten(0, 1)) + frames_BFD


def shapes(block: nn.Module) -> dict[str, torch.Size]:
    """The names and shapes of a block's weights: what it takes to copy one into another."""
    return {name: weight.shape for name, weight in block.state_dict().items()}


class SeqLSTM(nn.Module):
    """One unidirectional LSTM layer over the real frames, plus its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, frames_BFD: Tensor, mask_BF: Tensor) -> Tensor:
        # Padding comes last, so that no real frame's state has seen it
        hidden_BFD = self.lstm(frames_BFD)[0] * mask_BF[..., None]
        return hidden_BFD + frames_BFD
