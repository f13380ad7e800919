"""What a step measured, on its way to the host, and stopping where it is not finite.

Shapes: B captions of this process, V measured values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tvr.utils.distributed import gather_with_grad
from tvr.utils.errors import UserError


class Observed:
    """What a step measured, on its way to the host, and the captions that it was about."""

    def __init__(self, step: int, measured: dict[str, Tensor], caption_B: Tensor) -> None:
        self.step, self.names, self.caption_B = step, tuple(measured), caption_B
        values_V = torch.stack([value.detach().float() for value in measured.values()])
        of_loss = torch.stack([values_V[self.names.index(name)] for name in ("loss", "grad_norm")])
        self.broken = 1 - of_loss.isfinite().all().float()
        self._host_V = values_V.to("cpu", non_blocking=True)
        self._there = torch.cuda.Event() if values_V.is_cuda else None
        if self._there is not None:
            self._there.record()

    def numbers(self) -> dict[str, float]:
        """The values; waits until this step's are there, and for nothing that came after."""
        if self._there is not None:
            self._there.synchronize()
        return dict(zip(self.names, self._host_V.tolist(), strict=True))


@dataclass
class Watch:
    """Notices a loss or gradient that is not finite, without waiting for the device.

    The device itself leaves out that update, and all later ones once there are more than
    `allowed` (`broken` counts them); the host looks at a step's values when the next step has been
    handed to the device.
    """

    broken: Tensor
    captions: Callable[[list[int]], list[str]]
    warn: Callable[[str], None]
    allowed: int = 0
    skipped: int = 0
    latest: Observed | None = None

    def add(self, observed: Observed) -> Tensor:
        """Take note of a step, and look at the one before; 1 if it is not to update, else 0.

        Raises:
            UserError: that one's loss or gradient was not finite, and no more may be left out.
        """
        self.broken += observed.broken
        before, self.latest = self.latest, observed
        if before is not None:
            self.check(before)
        return torch.maximum(observed.broken, (self.broken > self.allowed).float())

    def flush(self) -> None:
        """Look at the last step; raises as `add`."""
        last, self.latest = self.latest, None
        if last is not None:
            self.check(last)

    def check(self, observed: Observed) -> None:
        """Look at a step's values, and wait until they are there."""
        values = observed.numbers()
        if math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"]):
            return
        captions = self.captions(gather_with_grad(observed.caption_B).tolist())
        problem = (
            f"step {observed.step + 1}: the loss or its gradient is not finite ({values}). It "
            f"updates nothing. Lower --lr, or look at these captions and their videos: {captions}"
        )
        if self.skipped == self.allowed:
            raise UserError(problem)
        self.skipped += 1
        self.warn(f"warning: {self.skipped} of {self.allowed} left out: {problem}")

    def go_on_after(self, skipped: int) -> None:
        """Start with this many updates left out already."""
        self.skipped = skipped
        self.broken.fill_(skipped)
