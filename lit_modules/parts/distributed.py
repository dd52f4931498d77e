"""What a training step needs from the other ranks: a global batch of scores, global means, equal buffers.

Everything here is the identity in a run of one process.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) outside a distributed run."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _SumOverRanks(Function):
    """Sum over ranks whose gradient is summed over ranks too (torch's own version is deprecated)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _SumOverRanks.apply(grads[0])


def global_batch(rows: Tensor) -> Tensor:
    """Every rank's rows (scores, codes), in the order of the ranks, differentiable on all of them.

    Let rank r's loss be a mean over its own samples that also reads the other ranks' rows. The backward
    pass adds up what all ranks' losses owe to this rank's rows, and DDP then averages the parameters'
    gradients over ranks: together, the gradient of the loss over the global batch.

    Args:
        rows: shape (n, ...), with the same n on every rank.

    Returns:
        Shape (ranks * n, ...).
    """
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return rows
    n = rows.shape[0]
    # A sum of disjoint parts is a gather, and all-reduce is the one collective that every backend has.
    before_and_after = rank * n, (world_size - 1 - rank) * n
    return _SumOverRanks.apply(nn.functional.pad(rows, (*[0, 0] * (rows.dim() - 1), *before_and_after)))


@torch.no_grad()
def mean_over_ranks(x: Tensor) -> Tensor:
    """Mean of ``x`` (any shape) over ranks, without gradient."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return x.detach()
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / world_size


@torch.no_grad()
def gather_rows(x: Tensor) -> Tensor:
    """All ranks' rows in the order of the ranks, without gradient: (B, ...) to (ranks * B, ...)."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size)]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def own_rows(x: Tensor) -> Tensor:
    """This rank's contiguous part of a global batch, the inverse of :func:`gather_rows`.

    Raises:
        ValueError: the rows do not divide among the ranks.
    """
    rank, world_size = rank_and_world_size()
    if x.shape[0] % world_size:
        raise ValueError(f"a global batch of {x.shape[0]} rows does not divide among {world_size} processes")
    return x.chunk(world_size)[rank]


@torch.no_grad()
def broadcast_buffers(module: nn.Module) -> None:
    """Give every rank the floating-point buffers of rank 0 (batch norm's running statistics).

    DDP does so before each training step, too late for what looks at a step's end (averaged weights, evaluation),
    and not at all in manual optimization: Lightning switches its gradient synchronization off around
    ``training_step`` and the buffers' goes with it.
    """
    _, world_size = rank_and_world_size()
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if world_size == 1 or not buffers:
        return
    flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
    dist.broadcast(flat, src=0)
    for buffer, values in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view_as(buffer))
