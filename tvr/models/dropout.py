"""Dropout that does not depend on how the texts are shared among processes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tvr.utils.distributed import rank, world_size


class DropoutByText(nn.Dropout):
    """Dropout on a tensor whose dimension `text_dim` runs over this process's texts.

    The noise is drawn for the texts of all processes, which their equal seeds make the same
    everywhere; each uses its own part. So W processes train as one does.
    """

    def __init__(self, p: float, text_dim: int) -> None:
        super().__init__(p)
        self.text_dim = text_dim

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        own = x.shape[self.text_dim]
        shape = list(x.shape)
        shape[self.text_dim] = own * world_size()
        noise = F.dropout(x.new_ones(shape), self.p)
        return x * noise.narrow(self.text_dim, own * rank(), own)
