"""Batches of texts: of like length to train and evaluate on, in their order to predict on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from datamodules.loading import ShardedSampler, random_generator, rank_and_world_size

T = TypeVar("T")
# Batches whose texts are sorted by length together: more of them mean less padding and less chance.
_POOL = 50


class LengthSampler(ShardedSampler):
    """Batches of texts of like length, each text once; what is numbered is (epoch, text).

    In each epoch the texts are drawn into pools of 50 global batches, each pool is sorted by length and cut into
    batches, and the batches are shuffled; the texts left over make the last, smaller batch. Without `shuffle` all are
    sorted, the longest first, so that one that takes too much memory does so at once.

    Row numbers are epoch * N + text: whoever fetches them, in whatever process, knows the epoch too.

    Args:
        lengths: of the N texts.
        batch_size: texts in a batch of one process.
        seed: of the order.
        shuffle: whether each epoch has an order of its own.
        fresh: if not, all epochs are as the first.
        process: `rank` and `world_size`, by default as `torch.distributed` says.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        fresh: bool = True,
        **process: int,
    ) -> None:
        super().__init__(len(lengths), batch_size, seed=seed, shuffle=shuffle, drop_last=False, **process)
        self._lengths = torch.tensor(lengths)
        self._fresh = fresh

    def batches(self, start: int = 0) -> Iterator[Tensor]:
        """Yields the row numbers (int64, one dimension) of each batch of this process, from batch `start` on."""
        epoch = self.epoch if self.shuffle and self._fresh else 0
        order = self._shuffled(epoch) if self.shuffle else self._lengths.argsort(descending=True, stable=True)
        order += epoch * self.size
        for batch in range(start, self.num_batches):
            yield order[slice(*self.bounds(batch))]

    def _shuffled(self, epoch: int) -> Tensor:
        generator = random_generator(self.seed, epoch, "order")
        order, rows = torch.randperm(self.size, generator=generator), self.batch_size * self.num_replicas
        full = self.size // rows
        pools = order[: full * rows].split(_POOL * rows)
        batches = torch.cat([pool[self._lengths[pool].argsort(stable=True)] for pool in pools]).view(full, rows)
        return torch.cat([batches[torch.randperm(full, generator=generator)].flatten(), order[full * rows :]])


class TextStream(Generic[T]):
    """Batches of texts in their order, one at a time; it can be gone through any number of times.

    Of W processes each gets a contiguous part of W * B texts that follow one another, so that all have the same number
    of batches; the last ones may be smaller, or have no text at all.

    Args:
        texts: gives them from the first one on.
        make: makes a batch of some of them.
        batch_size: texts B in a batch of one process.
        skip: how many of the first texts are left out.
        rank: this process; by default as `torch.distributed` says, 0 where it is not in use.
        world_size: number of processes W; by default likewise, else 1.
    """

    def __init__(
        self,
        texts: Callable[[], Iterable[T]],
        make: Callable[[list[T]], dict[str, Any]],
        batch_size: int,
        *,
        skip: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        here = rank_and_world_size()
        self._texts = texts
        self._make = make
        self._skip = skip
        self._rank = here[0] if rank is None else rank
        self._world_size = here[1] if world_size is None else world_size
        self._rows = batch_size * self._world_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        texts = islice(self._texts(), self._skip, None)
        while found := list(islice(texts, self._rows)):
            start, end = (len(found) * rank // self._world_size for rank in (self._rank, self._rank + 1))
            yield self._make(found[start:end])


def as_it_is(batch: Any) -> Any:
    """Returns a batch that a data set here has made: there is nothing left to collate."""
    return batch
