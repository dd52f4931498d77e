"""Drawing from a module during training without leaving a trace in it or in the random state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


def run_seed() -> int:
    """The run's seed, as `lightning.seed_everything` left it; 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def forked_rng(device: torch.device, *key: int) -> Iterator[None]:
    """Torch's random state, on the CPU and on `device`, seeded by `key`; afterwards it is what it was before.

    Args:
        device: where the draws happen.
        key: non-negative integers, such as (seed, step): equal keys give equal draws, others independent
            ones.
    """
    # With its length, since a SeedSequence takes (1, 2) and (1, 2, 0) for the same.
    mixed = int(np.random.SeedSequence((len(key), *key)).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mixed)
        yield
