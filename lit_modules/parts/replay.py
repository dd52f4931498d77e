"""Evaluating something again with the random numbers of the first time, such as a dropout mask."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RandomState:
    """Torch's random state at this moment, on the CPU and on a device.

    Args:
        device: a CUDA device's state is kept beside the CPU's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw the same numbers again, and go on afterwards as if nothing had been drawn."""
        with torch.random.fork_rng([] if self._cuda is None else [self._device]):
            torch.set_rng_state(self._cpu)
            if self._cuda is not None:
                torch.cuda.set_rng_state(self._cuda, self._device)
            yield
