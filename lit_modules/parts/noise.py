"""Random numbers that depend on (seed, step, stream) only, never on what was drawn before.

So a resumed run draws what the uninterrupted one would have drawn, and two processes on the halves of a batch
draw what one process on the whole batch draws.
"""

import hashlib
import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lit_modules.parts.distributed import rank_and_world_size


def run_seed() -> int:
    """The run's seed, as Lightning's ``seed_everything`` leaves it in the environment; 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def keyed_generator(step: int, stream: str) -> torch.Generator:
    """A CPU generator whose state is a hash of the run's seed, ``step`` and ``stream``."""
    return generator_of(f"{run_seed()}/{step}/{stream}")


def generator_of(key: str) -> torch.Generator:
    """A CPU generator whose state is a hash of ``key`` and of nothing else, not even the run's seed."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw(
    sizes: Sequence[int],
    shape: Sequence[int],
    *,
    step: int,
    stream: str,
    device: torch.device | str = "cpu",
    distribution: Callable[..., Tensor] = torch.randn,
) -> list[Tensor]:
    """Noise for consecutive micro-batches of one update, drawn at once for all of them and for all ranks.

    The numbers are drawn on the CPU, so that they are the same whatever the device. Rows are laid out by
    micro-batch, then by rank: k accumulated micro-batches of B rows get what one batch of k * B rows gets.

    Args:
        sizes: rows B of each micro-batch on this rank (the same on every rank).
        shape: of one row.
        step: of training, usually ``trainer.global_step``.
        stream: name that tells apart the draws of one step.
        device: where the result goes.
        distribution: ``torch.randn`` or ``torch.rand``.

    Returns:
        One float32 tensor (B, *shape) for each of ``sizes``.
    """
    rank, world_size = rank_and_world_size()
    rows = distribution(world_size * sum(sizes), *shape, generator=keyed_generator(step, stream))
    parts, start = [], 0
    for size in sizes:
        own = start + rank * size
        parts.append(rows[own : own + size].to(device, non_blocking=True))
        start += world_size * size
    return parts
