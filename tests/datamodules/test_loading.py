"""Order, shards, resume and random state of the loaders."""

import itertools
import multiprocessing
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from datamodules.loading import (
    Batch,
    ResumableDataLoader,
    ResumableLoader,
    ShardedSampler,
    TensorLoader,
    random_generator,
)

N = 53


class Rows(torch.utils.data.Dataset[tuple[Tensor]]):
    """Row i is the number i."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> tuple[Tensor]:
        return (torch.tensor(row),)


class Damaged(Rows):
    """Row 7 cannot be read."""

    def __getitems__(self, rows: list[int]) -> list[object]:
        return [ValueError("row 7 is damaged")] if 7 in rows else [self[row] for row in rows]

    @staticmethod
    def collate(rows: list[object]) -> object:
        return rows[0] if isinstance(rows[0], ValueError) else torch.utils.data.default_collate(rows)


def make(kind: str, **sampler: Any) -> ResumableLoader:
    """A loader of the numbers 0 ... 52 with flips: "tensors", or the number of workers."""
    shards = ShardedSampler(N, sampler.pop("batch_size", 4), seed=3, **sampler)
    if kind == "tensors":
        return TensorLoader([torch.arange(N)], shards, flip_coins=True)
    return ResumableDataLoader(Rows(), shards, num_workers=int(kind), flip_coins=True)


def equal(batches: list[Batch], others: list[Batch]) -> bool:
    """Whether two sequences of batches are the same, bit by bit."""
    return len(batches) == len(others) and all(
        len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(batches, others, strict=True)
    )


@pytest.mark.parametrize("kind", ["tensors", "0", "2"])
@pytest.mark.parametrize("done", [0, 5, 13])
def test_resume_in_the_middle_of_an_epoch(kind: str, done: int) -> None:
    whole = make(kind)
    whole.sampler.set_epoch(2)
    batches = list(whole)

    first = make(kind)
    first.sampler.set_epoch(2)
    list(itertools.islice(first, done))
    state = first.state_dict()
    assert state == {"epoch": 2 if done else 0, "batches": done, "rows": 4 * done, "size": N}

    second = make(kind)
    second.load_state_dict(state)
    iterator = iter(second)  # Lightning calls iter() first, set_epoch() later.
    second.sampler.set_epoch(2)
    assert second.state_dict() == state
    assert equal(list(iterator), batches[done:])
    assert len(second) == len(batches) == 13
    second.sampler.set_epoch(3)
    whole.sampler.set_epoch(3)
    assert equal(list(second), list(whole))
    assert len(list(second)) == 13


def test_state_of_another_epoch_does_not_skip() -> None:
    loader = make("tensors")
    list(loader)
    state = loader.state_dict()
    assert state == {"epoch": 0, "batches": 13, "rows": 52, "size": N}
    loader.sampler.set_epoch(1)
    assert loader.state_dict() == state, "a checkpoint before the first batch must not skip the new epoch"
    resumed = make("tensors")
    resumed.load_state_dict(state)
    resumed.sampler.set_epoch(1)
    assert len(list(resumed)) == 13


def test_epoch_left_early_starts_anew() -> None:
    for kind in ("tensors", "2"):
        loader = make(kind)
        unfinished = iter(loader)
        next(unfinished)
        loader.sampler.set_epoch(1)
        other = make(kind)
        other.sampler.set_epoch(1)
        assert equal(list(loader), list(other))


@pytest.mark.parametrize("kind", ["tensors", "0", "2"])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_are_one_process(kind: str, drop_last: bool, world_size: int) -> None:
    alone = list(make(kind, batch_size=4 * world_size, drop_last=drop_last, world_size=1, rank=0))
    ranks = [
        list(make(kind, batch_size=4, drop_last=drop_last, world_size=world_size, rank=rank))
        for rank in range(world_size)
    ]
    together = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in zip(*ranks, strict=True)]
    assert equal(together, alone)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_resume_with_another_number_of_processes(before: int, after: int) -> None:
    """With global batches as large as before, no row is lost or comes twice; with others it is refused."""
    first = make("tensors", batch_size=12 // before, world_size=before, rank=0)
    list(itertools.islice(first, 2))
    ranks = [make("tensors", batch_size=12 // after, world_size=after, rank=rank) for rank in range(after)]
    for loader in ranks:
        loader.load_state_dict(first.state_dict())
    rest = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in zip(*ranks, strict=True)]
    assert equal(rest, list(make("tensors", batch_size=12, world_size=1, rank=0))[2:])
    other = make("tensors", batch_size=12 // before, world_size=after, rank=0)
    other.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"2 batches had 24 of 53 rows when .* set data.batch_size so that all"):
        next(iter(other))
    # The next epoch may be divided otherwise.
    other.sampler.set_epoch(1)
    assert len(list(other)) == len(other)


@pytest.mark.parametrize("size", range(3, 40))
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_takes_each_row_once_in_equally_many_batches(size: int, world_size: int) -> None:
    samplers = [
        ShardedSampler(size, 4, shuffle=False, drop_last=False, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [list(sampler.batches()) for sampler in samplers]
    assert sorted(torch.cat([torch.cat(rank) for rank in batches]).tolist()) == list(range(size))
    assert len({len(rank) for rank in batches}) == 1
    lengths = [len(batch) for rank in batches for batch in rank]
    assert min(lengths) >= 1
    assert max(lengths) <= 4 + (world_size > 1)
    for sampler, rank in zip(samplers, batches, strict=True):
        assert len(sampler) == sum(map(len, rank))
        assert list(sampler) == torch.cat(rank).tolist()


def test_epochs_and_seeds_have_their_own_orders() -> None:
    sampler = ShardedSampler(1000, 10)
    first, coins = list(sampler), sampler.coins()
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert not torch.equal(sampler.coins(), coins)
    # An order of (seed + epoch) would be the same one here.
    assert list(sampler) != list(ShardedSampler(1000, 10, seed=1))
    assert sorted(sampler) == list(range(1000))
    assert abs(coins.float().mean() - 0.5) < 0.05


def test_generator_keys_do_not_collide() -> None:
    keys = [(0, 1, "order"), (1, 0, "order"), (0, 1, "coins"), (0, 11, "order"), (0, "1order")]
    draws = {torch.randint(2**60, (), generator=random_generator(*key)).item() for key in keys}
    assert len(draws) == len(keys)
    assert random_generator(5).initial_seed() == random_generator(5).initial_seed()


@pytest.mark.parametrize("kind", ["tensors", "0", "2"])
def test_global_random_state_is_untouched(kind: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make(kind))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    batches = list(make(kind))
    torch.manual_seed(2)
    assert equal(batches, list(make(kind)))


def test_too_few_rows() -> None:
    with pytest.raises(ValueError, match=r"batches of 8 in each of 2 process.* need 16 rows; there are 15"):
        ShardedSampler(15, 8, rank=0, world_size=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        ShardedSampler(15, 0)
    with pytest.raises(ValueError, match="need 2 rows; there are 1"):
        ShardedSampler(1, 8, drop_last=False, rank=0, world_size=2)


def test_lightning_leaves_the_sampler_alone() -> None:
    assert isinstance(ShardedSampler(10, 2), DistributedSampler)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_error_of_a_worker_arrives_with_its_own_message(num_workers: int) -> None:
    sampler = ShardedSampler(N, 4, shuffle=False)
    loader = ResumableDataLoader(Damaged(), sampler, num_workers=num_workers, collate_fn=Damaged.collate)
    with pytest.raises(ValueError, match=r"^row 7 is damaged$"):
        list(loader)
    assert loader.state_dict()["batches"] == 1
    assert multiprocessing.active_children() == []


def test_closed_loader_starts_anew() -> None:
    loader = ResumableDataLoader(Rows(), ShardedSampler(N, 4, seed=3), num_workers=2, flip_coins=True)
    unfinished = iter(loader)
    next(unfinished)
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    assert multiprocessing.active_children() == []
    assert equal(list(loader), list(make("0")))
    loader.close()
