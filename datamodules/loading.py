"""Loaders that resume in the middle of an epoch and give several processes what one would have seen.

Order, sharding and random flips are pure functions of (seed, epoch, position in the epoch), never of a hidden
random state. So a run that is resumed sees the batches it would have seen, and W processes on batches of B see
together, row by row, what one process on batches of W * B sees.

The loaders keep Lightning's own protocol for resumable loaders (`state_dict`, `load_state_dict`, a `sampler` with
`set_epoch`). They are no `torch.utils.data.DataLoader`, so that Lightning neither rebuilds them nor replaces their
sampler. `__iter__` is a generator function: Lightning calls `iter()` before it sets the epoch, so that nothing may
be decided before the first `next()`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

Batch = tuple[Tensor, ...]


def rank_and_world_size() -> tuple[int, int]:
    """Returns the number of this process and that of all, as `torch.distributed` says; (0, 1) where not in use."""
    in_use = torch.distributed.is_available() and torch.distributed.is_initialized()
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if in_use else (0, 1)


def random_generator(*key: int | str) -> torch.Generator:
    """Returns a CPU generator seeded by a hash of `key`, such as (seed, epoch, "order")."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class ShardedSampler(DistributedSampler[int]):
    """Splits each global batch of an epoch into one contiguous part a process.

    Global batch k of an epoch is rows `order[k * B * W : (k + 1) * B * W]` of that epoch's order, with B the batch
    size of one process and W the number of processes; process r takes the r-th of W parts.

    Without `drop_last` the rows left over make a smaller last batch, split as evenly as can be. All processes have
    the same number of batches, and each row comes exactly once: fewer than W rows left over join the last full
    global batch, whose parts then hold B or B + 1 rows.

    Args:
        size: number of rows N of the data set.
        batch_size: rows B in a batch of one process.
        seed: seed of the order.
        shuffle: whether each epoch has an order of its own; otherwise rows come in their own order.
        drop_last: whether to leave out the rows that do not fill a global batch.
        rank: this process; by default as `torch.distributed` says, 0 where it is not in use.
        world_size: number of processes W; by default likewise, else 1.

    Raises:
        ValueError: where not even one batch can be made.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        here = rank_and_world_size()
        rank = here[0] if rank is None else rank
        world_size = here[1] if world_size is None else world_size
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it has to be at least 1")
        needed = batch_size * world_size if drop_last else world_size
        if size < needed:
            each = f"batches of {batch_size}" if drop_last else "at least one"
            raise ValueError(f"{each} in each of {world_size} process(es) need {needed} rows; there are {size}")
        super().__init__(
            range(size),  # type: ignore[arg-type]
            num_replicas=world_size,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
        )
        self.size = size
        self.batch_size = batch_size

    @property
    def num_batches(self) -> int:
        """Batches of one epoch, the same in all processes."""
        full, rest = divmod(self.size, self.batch_size * self.num_replicas)
        return full if self.drop_last or (full > 0 and rest < self.num_replicas) else full + 1

    def bounds(self, batch: int) -> tuple[int, int]:
        """Returns where this process's part of a global batch begins and ends in the epoch."""
        rows = self.batch_size * self.num_replicas
        start = batch * rows
        if batch == self.num_batches - 1 and not self.drop_last:
            rows = self.size - start
        return start + rows * self.rank // self.num_replicas, start + rows * (self.rank + 1) // self.num_replicas

    def rows_before(self, batch: int) -> int:
        """Returns how many rows all processes together have had of an epoch before a batch."""
        return min(batch * self.batch_size * self.num_replicas, self.size)

    def batches(self, start: int = 0) -> Iterator[Tensor]:
        """Yields the row numbers (int64, one dimension) of each batch of this process, from batch `start` on."""
        if self.shuffle:
            order = torch.randperm(self.size, generator=random_generator(self.seed, self.epoch, "order"))
        else:
            order = torch.arange(self.size)
        for batch in range(start, self.num_batches):
            yield order[slice(*self.bounds(batch))]

    def coins(self) -> Tensor:
        """Returns this epoch's fair coins, one for each position in the epoch: (N,), bool."""
        return torch.randint(
            2, (self.size,), generator=random_generator(self.seed, self.epoch, "coins"), dtype=torch.bool
        )

    def __iter__(self) -> Iterator[int]:
        for rows in self.batches():
            yield from rows.tolist()

    def __len__(self) -> int:
        """Rows of this process in an epoch."""
        first, last = self.bounds(0), self.bounds(self.num_batches - 1)
        return (self.num_batches - 1) * (first[1] - first[0]) + last[1] - last[0]


class ResumableLoader(ABC):
    """A loader whose place in the epoch can be saved and restored; the batches come from a subclass.

    Args:
        sampler: says which rows make which batch.
        flip_coins: whether to end each batch with a tensor (B,), bool: which rows are to be mirrored. It is a
            function of (seed, epoch, position in the epoch) alone.
        pin_memory: whether batches lie in page-locked memory; without effect where there is no CUDA device.
    """

    def __init__(self, sampler: ShardedSampler, *, flip_coins: bool = False, pin_memory: bool = False) -> None:
        self.sampler = sampler
        # Lightning asks every loader with a sampler for this too, to see whether evaluation data is shuffled.
        self.batch_sampler = None
        self._flip_coins = flip_coins
        self._pin_memory = pin_memory and torch.cuda.is_available()
        self._epoch = 0
        self._batches = 0
        self._loaded: dict[str, int] | None = None

    @abstractmethod
    def _load(self, start: int) -> Iterator[Batch]:
        """Yields this epoch's batches from number `start` on."""

    def __len__(self) -> int:
        """Batches of a whole epoch, resumed or not."""
        return self.sampler.num_batches

    def __iter__(self) -> Iterator[Batch]:
        start = 0
        if self._loaded and self._epoch == self.sampler.epoch:
            # Of processes that all fail, the first one to end would end the others, whatever they have to say.
            if rank_and_world_size()[0] == 0:
                self._check_rows(self._loaded)
            start = self._batches
        self._epoch, self._batches, self._loaded = self.sampler.epoch, start, None
        coins = self.sampler.coins() if self._flip_coins else None
        for number, batch in enumerate(self._load(start), start):
            # Counted before it is handed over: a checkpoint is written while the generator waits at `yield`.
            self._batches = number + 1
            yield batch if coins is None else (*batch, coins[slice(*self.sampler.bounds(number))])

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch, the number of its batches that were handed out, and their rows in all processes."""
        rows = self.sampler.rows_before(self._batches)
        return {"epoch": self._epoch, "batches": self._batches, "rows": rows, "size": self.sampler.size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Makes the next iteration go on from there, if it is of the same epoch.

        The number of processes may be another one, if their batches together are as large as before: otherwise that
        iteration raises a ValueError, because it would repeat or leave out rows.
        """
        self._epoch, self._batches = state_dict["epoch"], state_dict["batches"]
        self._loaded = state_dict

    def _check_rows(self, saved: dict[str, int]) -> None:
        """Sees that as many batches are the same share of an epoch as in the run that is gone on with."""
        rows, sampler = self.sampler.rows_before(saved["batches"]), self.sampler
        if rows * saved["size"] != saved["rows"] * sampler.size:
            raise ValueError(
                f"{saved['batches']} batches had {saved['rows']} of {saved['size']} rows when the checkpoint was"
                f" written, here they have {rows} of {sampler.size}: set data.batch_size so that all processes together"
                " have as many rows in a batch as then (half as many each in twice as many processes)"
            )


class TensorLoader(ResumableLoader):
    """Batches sliced from tensors in memory, without any work per row.

    Args:
        tensors: tensors of N rows each, kept as they are and never copied as a whole.
        sampler: a sampler of size N.
        flip_coins: see `ResumableLoader`.
        pin_memory: see `ResumableLoader`.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        sampler: ShardedSampler,
        *,
        flip_coins: bool = False,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(sampler, flip_coins=flip_coins, pin_memory=pin_memory)
        assert all(len(tensor) == sampler.size for tensor in tensors)
        self.tensors = tuple(tensors)

    def _load(self, start: int) -> Iterator[Batch]:
        for rows in self.sampler.batches(start):
            # index_select takes a sixth of the time of tensor[rows] on uint8 images.
            batch = tuple(tensor.index_select(0, rows) for tensor in self.tensors)
            yield tuple(part.pin_memory() for part in batch) if self._pin_memory else batch


class ResumableDataLoader(ResumableLoader):
    """Batches of a map-style data set, fetched by worker processes in the order of the sampler.

    The workers live as long as the loader. Nothing is drawn from the global random state. An exception that the
    data set or `collate_fn` *returns* in place of a batch is raised in this process with its message as it is
    (one that is raised in a worker arrives wrapped in the worker's traceback).

    Args:
        dataset: gives row i at `dataset[i]`, or a list of rows by `__getitems__`.
        sampler: a sampler of its size.
        num_workers: worker processes; 0 fetches in this process.
        collate_fn: makes a sequence or a dict of tensors of a list of rows; torch's default stacks them.
        flip_coins: see `ResumableLoader`.
        pin_memory: see `ResumableLoader`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: ShardedSampler,
        *,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        flip_coins: bool = False,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(sampler, flip_coins=flip_coins, pin_memory=pin_memory)
        self._rest = _RestOfEpoch(sampler)
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._rest,
            num_workers=num_workers,
            collate_fn=collate_fn,
            pin_memory=self._pin_memory,
            persistent_workers=num_workers > 0,
        )

    def _load(self, start: int) -> Iterator[Any]:
        self._rest.start = start
        # The workers' seeds come from this generator.
        self._loader.generator = random_generator(self.sampler.seed, self.sampler.epoch, "workers")
        try:
            for batch in self._loader:
                if isinstance(batch, Exception):
                    raise batch
                yield batch if isinstance(batch, dict) else tuple(batch)
        except Exception:
            # The traceback keeps this frame alive; workers left to the garbage collector take 5 s each to end.
            self.close()
            raise

    def close(self) -> None:
        """Ends the worker processes; the next iteration starts new ones."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()
            self._iterator = None

    @property
    def _iterator(self) -> Any:
        """The workers' iterator, under the name by which Lightning ends them when a run is over."""
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: None) -> None:
        self._loader._iterator = iterator


class _RestOfEpoch:
    """The batches of row numbers of an epoch from `start` on, as a DataLoader wants them."""

    def __init__(self, sampler: ShardedSampler) -> None:
        self._sampler = sampler
        self.start = 0

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self._sampler.batches(self.start))
