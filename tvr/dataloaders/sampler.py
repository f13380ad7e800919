"""Batches that depend on the seed and the epoch only, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from tvr.utils.errors import UserError


class Key(NamedTuple):
    """A caption of an epoch, and the caption that decides how its clip is augmented.

    That is the first of the global batch with the same clip, so that the clip is the same for all.
    """

    epoch: int
    caption: int
    drawn_by: int


def global_batches(n: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Indices of 0..n-1 in a random order, shape (n // batch_size, batch_size), int64.

    The order is decided by (seed, epoch); the last, incomplete batch is dropped. Raises
    UserError if there is not one whole batch.
    """
    if n < batch_size:
        raise UserError(
            f"--batch_size {batch_size}: the training split has only {n:,} captions, so there is "
            f"not one whole batch. Lower --batch_size to at most {n}, or use more data."
        )
    steps = n // batch_size
    order = np.random.default_rng([seed, epoch]).permutation(n)
    return order[: steps * batch_size].reshape(steps, batch_size)


class RankSampler(Sampler[list[Key]]):
    """One rank's share of every global batch of some epochs; `video_of_caption` is the split's.

    The first `done` batches of them are left out.

    Rank r of W takes the r-th of W contiguous slices: put together in the order of the ranks,
    W processes see exactly the batches of one process with the W-fold batch size.

    Raises:
        UserError: the captions do not fill one batch over all ranks.
    """

    def __init__(
        self,
        video_of_caption: Sequence[int],
        batch_size_per_rank: int,
        rank: int,
        world_size: int,
        seed: int,
        epochs: range,
        done: int = 0,
    ) -> None:
        assert 0 <= rank < world_size, (rank, world_size)
        self._videos = np.asarray(video_of_caption)
        self._batch_size, self._seed, self._epochs = batch_size_per_rank * world_size, seed, epochs
        self._done = done
        self._share = slice(rank * batch_size_per_rank, (rank + 1) * batch_size_per_rank)
        # refuses too large a batch before any work
        self.steps_per_epoch = len(self._batches(epochs.start))

    def __len__(self) -> int:
        return self.steps_per_epoch * len(self._epochs) - self._done

    def __iter__(self) -> Iterator[list[Key]]:
        whole, part = divmod(self._done, self.steps_per_epoch)
        for epoch in self._epochs[whole:]:
            skipped = part if epoch == self._epochs[whole] else 0
            for captions in self._batches(epoch)[skipped:]:
                _, first, place = np.unique(
                    self._videos[captions], return_index=True, return_inverse=True
                )
                drawn_by = captions[first[place]]
                pairs = zip(captions[self._share], drawn_by[self._share], strict=True)
                yield [Key(epoch, int(caption), int(by)) for caption, by in pairs]

    def _batches(self, epoch: int) -> np.ndarray:
        return global_batches(len(self._videos), self._batch_size, self._seed, epoch)
