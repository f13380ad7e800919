"""Processes: start-up, gathering with exact gradients, and who speaks.

Shapes: N items of this rank, T items of all ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tvr.utils.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among all: its rank, its rank on this machine, and how many there are."""

    rank: int
    local_rank: int
    world_size: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def launched_ranks(local_rank: int | None = None) -> Ranks:
    """What the launcher (`torchrun`, `torch.distributed.launch`) said; one process without one."""
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    fallback = 0 if local_rank is None else local_rank
    return Ranks(rank, int(os.environ.get("LOCAL_RANK", fallback)), world_size)


def choose_device(wanted: str, ranks: Ranks) -> torch.device:
    """The device of this process for `--device auto|cpu|cuda`.

    Raises:
        UserError: CUDA was asked for and is not there, or there are more processes than GPUs.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("--device cuda: this PyTorch sees no CUDA device. Use --device cpu.")
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if ranks.local_rank >= count:
        raise UserError(
            f"--nproc_per_node: process {ranks.local_rank} of this machine has no GPU of its own, "
            f"there are {count}. Start at most {count} processes, or use --device cpu."
        )
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


@contextmanager
def process_group(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Joins the launcher's processes: NCCL on GPUs, gloo on CPUs; nothing for a single process."""
    if ranks.world_size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def local_leader_first() -> Iterator[None]:
    """The machine's first process goes through alone; the others follow once it is done.

    They follow as well where it fails, so that no process waits for one that has gone.
    """
    together = dist.is_initialized()
    leads = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if together and not leads:
        dist.barrier()
    try:
        yield
    finally:
        if together and leads:
            dist.barrier()


class GatherRows(torch.autograd.Function):
    """Stacks every rank's rows; the gradient of all ranks' losses flows back to each row.

    Every rank computes the same loss on the stacked rows, so summing the ranks' gradients gives W
    times the gradient of one process. DistributedDataParallel then averages over W ranks, which
    makes the encoders' gradient equal to that of one process, as that of ψ and the losses is.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        ctx.count = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad_rows: Tensor) -> Tensor:
        grad_rows = grad_rows.contiguous()
        dist.all_reduce(grad_rows)
        start = dist.get_rank() * ctx.count
        return grad_rows[start : start + ctx.count]


def gather_with_grad(rows_N: Tensor) -> Tensor:
    """All ranks' rows in rank order, equally many from each; differentiable.

    Boolean and integer tensors are gathered too, without a gradient.
    """
    if not dist.is_initialized():
        return rows_N
    if rows_N.is_floating_point():
        return GatherRows.apply(rows_N)
    parts = [torch.empty_like(rows_N) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows_N.contiguous())
    return torch.cat(parts)


def gather_uneven(rows_N: Tensor) -> Tensor:
    """All ranks' rows in rank order, where ranks may hold different numbers of rows, even none."""
    if not dist.is_initialized():
        return rows_N
    counts = gather_with_grad(torch.tensor([len(rows_N)], device=rows_N.device)).tolist()
    padded = rows_N.new_zeros(max(counts), *rows_N.shape[1:])
    padded[: len(rows_N)] = rows_N
    stacked = gather_with_grad(padded).split(max(counts))
    return torch.cat([part[:count] for part, count in zip(stacked, counts, strict=True)])
