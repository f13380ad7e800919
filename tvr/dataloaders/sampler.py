"""Batches that depend on the seed and the epoch only, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from tvr.utils.errors import UserError


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


class RankSampler(Sampler[list[tuple[int, int]]]):
    """One rank's share of every global batch, as lists of (epoch, index).

    Rank r of W takes the r-th of W contiguous slices: put together in the order of the ranks,
    W processes see exactly the batches of one process with the W-fold batch size.
    """

    def __init__(
        self, n: int, batch_size_per_rank: int, rank: int, world_size: int, seed: int, epoch: int
    ) -> None:
        assert 0 <= rank < world_size, (rank, world_size)
        batches = global_batches(n, batch_size_per_rank * world_size, seed, epoch)
        self._share = batches[:, rank * batch_size_per_rank : (rank + 1) * batch_size_per_rank]
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._share)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for indices in self._share:
            yield [(self._epoch, int(index)) for index in indices]
