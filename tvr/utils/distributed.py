"""Processes: start-up, gathering with exact gradients, and who speaks.

Shapes: N items of this rank, T items of all ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

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
    """What the launcher (`torchrun`, `torch.distributed.launch`) said; one process without one.

    `local_rank`, the flag, only counts where the environment says nothing; -1 means not set.

    Raises:
        UserError: the environment's RANK, LOCAL_RANK or WORLD_SIZE is not a number.
    """
    fallback = max(local_rank or 0, 0)
    return Ranks(
        from_environment("RANK", 0),
        from_environment("LOCAL_RANK", fallback),
        from_environment("WORLD_SIZE", 1),
    )


def from_environment(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise UserError(f"the environment variable {name} is {value!r}: a launcher sets a number.")
    return int(value)


def speaks_for_machine() -> bool:
    """Whether this process reports the mistakes that all processes of the machine see."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def uses_gpu(wanted: str) -> bool:
    """Whether `--device` asks for a GPU, or for whatever there is, and there is one."""
    return wanted != "cpu" and torch.cuda.is_available()


def choose_device(wanted: str, ranks: Ranks) -> torch.device:
    """The device of this process for `--device auto|cpu|cuda`.

    Raises:
        UserError: CUDA was asked for and is not there, or there are more processes than GPUs.
    """
    on_gpu = uses_gpu(wanted)
    if wanted == "cuda" and not on_gpu:
        raise UserError("--device cuda: this PyTorch sees no CUDA device. Use --device cpu.")
    if not on_gpu:
        return torch.device("cpu")
    count, started = torch.cuda.device_count(), from_environment("LOCAL_WORLD_SIZE", 1)
    if max(started, ranks.local_rank + 1) > count:
        raise UserError(
            f"--nproc_per_node {started}: this machine has {count} GPU(s), and every process needs "
            f"its own. Start at most {count}, or use --device cpu."
        )
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


@contextmanager
def process_group(
    ranks: Ranks, device: torch.device, store: dist.Store | None = None
) -> Iterator[None]:
    """Joins the launcher's processes: gloo for what lies on the host, NCCL for what lies on GPUs.

    They meet by `store`, or by the launcher's own. Nothing for a single process.

    After an error the group is left as it is: taking it down would wait for the other processes.
    """
    if ranks.world_size == 1:
        yield
        return
    cuda = device.type == "cuda"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        timeout=timedelta(minutes=30),
        device_id=device if cuda else None,
        rank=ranks.rank,
        world_size=ranks.world_size,
        store=None if store is None else dist.PrefixStore("group", store),
    )
    yield
    dist.destroy_process_group()


def lost_another_process(error: RuntimeError) -> bool:
    """Whether a collective failed because the process at the other end has gone."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return dist.is_initialized() and (
        isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)
    )


def broadcast_weights(model: nn.Module) -> None:
    """Gives every process the main one's weights."""
    broadcast_tensors(model.state_dict().values())


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Gives every process the main one's values of these tensors, in their place."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def broadcast_object(value: Any) -> Any:
    """The main process's value, on every process."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def gather_objects(value: Any) -> list[Any]:
    """Every process's value, in the order of their ranks, on every process."""
    values = [value]
    if dist.is_initialized():
        values = [None] * world_size()
        dist.all_gather_object(values, value)
    return values


def largest(value: int) -> int:
    """The largest of all processes' values; asks the processes, not the devices."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor(value)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor)


def wait_for_all() -> None:
    """Returns once every process is here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def local_leader_first() -> Iterator[None]:
    """The machine's first process goes through alone; the others follow once it is done.

    They follow as well where it fails, so that no process waits for one that has gone.
    """
    together = dist.is_initialized()
    leads = speaks_for_machine()
    if together and not leads:
        dist.barrier()
    try:
        yield
    finally:
        if together and leads:
            dist.barrier()


class GatherRows(torch.autograd.Function):
    """Stacks every rank's rows; the gradient of all ranks' losses flows back to each row.

    Every rank computes the same loss, of which its own texts' rows are one part. So the sum of the
    ranks' gradients, taken here on the way back, is W times that of one process; and the mean over
    W ranks of the parameters' gradients, which is taken after the backward pass, is that of one.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        return all_rows(rows)

    @staticmethod
    def backward(ctx: Any, grad_rows: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.count
        return summed(grad_rows)[start : start + ctx.count]


class SumOverRanks(torch.autograd.Function):
    """The sum of every rank's tensor, on every rank; for the gradient see `GatherRows`."""

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        return summed(share)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return summed(grad)


def summed(share: Tensor) -> Tensor:
    """A new tensor with the sum over ranks; the argument stays, which autograd may still need."""
    total = share.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def sum_over_ranks(share: Tensor) -> Tensor:
    """The sum of every rank's tensor, differentiable; the tensor itself for a single process."""
    return SumOverRanks.apply(share) if dist.is_initialized() else share


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over ranks in place of each gradient, with one exchange for all.

    For what DistributedDataParallel does not look after.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not dist.is_initialized() or not gradients:
        return
    mean = summed(torch.cat([gradient.flatten() for gradient in gradients])) / world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, mean.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def world_size() -> int:
    """How many processes take part."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's place among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather_with_grad(rows_N: Tensor) -> Tensor:
    """All ranks' rows in rank order, equally many from each; differentiable.

    Boolean and integer tensors are gathered too, without a gradient.
    """
    if not dist.is_initialized():
        return rows_N
    return GatherRows.apply(rows_N) if rows_N.is_floating_point() else all_rows(rows_N)


def all_rows(rows_N: Tensor) -> Tensor:
    """All ranks' rows in rank order, equally many from each, without a gradient."""
    rows_N = rows_N.contiguous()
    parts = [torch.empty_like(rows_N) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows_N)
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
