"""Before processes join: all hear of a mistake that keeps one of them from joining.

Without that the others would wait for it for as long as a slow machine may take to start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist

from tvr.utils.distributed import Ranks
from tvr.utils.errors import UserError

WAIT = timedelta(minutes=30)


@contextmanager
def mistakes_told(ranks: Ranks) -> Iterator[dist.Store | None]:
    """Within it a process gets ready; it yields what the processes meet by, None for one alone.

    Raises:
        UserError: another process has met one instead of getting ready.
    """
    if ranks.world_size == 1:
        yield None
        return
    store, _, _ = next(dist.rendezvous("env://", ranks.rank, ranks.world_size, timeout=WAIT))
    try:
        yield store
    except UserError as error:
        # the process that keeps the store may have met the same and be gone
        with suppress(RuntimeError):
            store.set(f"mistake {ranks.rank}", str(error))
        raise
    store.set(f"mistake {ranks.rank}", "")
    for rank in range(ranks.world_size):
        try:
            mistake = store.get(f"mistake {rank}").decode(errors="replace")
        except RuntimeError as error:
            raise UserError("another process stopped; its own message says why.") from error
        if mistake:
            raise UserError(f"process {rank} cannot take part: {mistake}")
