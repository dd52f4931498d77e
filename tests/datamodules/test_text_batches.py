"""Texts of like length in batches, and the stream of texts to predict on."""

from collections.abc import Iterator

import pytest
import torch

from datamodules.text_batches import LengthSampler, TextStream

LENGTHS = torch.randint(5, 60, (1003,), generator=torch.Generator().manual_seed(0)).tolist()


def epoch_of(sampler: LengthSampler, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [rows.tolist() for rows in sampler.batches()]


# ---- Order ----


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_each_text_once_with_its_epoch(shuffle: bool, epoch: int) -> None:
    batches = epoch_of(LengthSampler(LENGTHS, 8, shuffle=shuffle), epoch)
    assert [len(batch) for batch in batches] == [8] * 125 + [3]
    first = epoch * 1003 if shuffle else 0
    assert sorted(row for batch in batches for row in batch) == list(range(first, first + 1003))


def padding(batches: list[list[int]]) -> float:
    """The part of the places in all batches that holds nothing."""
    lengths = [[LENGTHS[row % 1003] for row in batch] for batch in batches]
    return 1 - sum(map(sum, lengths)) / sum(max(batch) * len(batch) for batch in lengths)


def test_texts_of_like_length_together() -> None:
    """Of the places 2 % hold padding, where it is 40 % of batches at random, and no epoch is like another."""
    sampler = LengthSampler(LENGTHS, 8)
    first, second = epoch_of(sampler, 0), epoch_of(sampler, 1)
    assert padding(first) < 0.03
    assert padding(second) < 0.03
    random = torch.randperm(1003, generator=torch.Generator().manual_seed(0)).split(8)
    assert padding([batch.tolist() for batch in random]) > 0.3
    assert first != [[row - 1003 for row in batch] for batch in second]
    # Short ones come neither first nor last.
    means = torch.tensor([sum(LENGTHS[row] for row in batch) / 8 for batch in first[:-1]])
    assert not means.equal(means.sort().values)


def test_evaluation_begins_with_the_longest() -> None:
    batches = epoch_of(LengthSampler(LENGTHS, 8, shuffle=False), 3)
    lengths = [LENGTHS[row] for batch in batches for row in batch]
    assert lengths == sorted(LENGTHS, reverse=True)


def test_without_fresh_draws_all_epochs_are_the_first() -> None:
    sampler = LengthSampler(LENGTHS, 8, fresh=False)
    assert epoch_of(sampler, 5) == epoch_of(sampler, 0) == epoch_of(LengthSampler(LENGTHS, 8), 0)


def test_seeds_differ() -> None:
    assert epoch_of(LengthSampler(LENGTHS, 8), 0) != epoch_of(LengthSampler(LENGTHS, 8, seed=1), 0)


@pytest.mark.parametrize("shuffle", [True, False])
def test_two_processes_share_the_batches_of_one(shuffle: bool) -> None:
    whole = epoch_of(LengthSampler(LENGTHS, 16, shuffle=shuffle), 2)
    parts = [epoch_of(LengthSampler(LENGTHS, 8, shuffle=shuffle, rank=r, world_size=2), 2) for r in range(2)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


def test_fewer_texts_than_a_batch() -> None:
    assert sorted(epoch_of(LengthSampler([3, 1, 2], 8), 0)[0]) == [0, 1, 2]


# ---- Stream ----


def stream(count: int, **options: int) -> list[list[int]]:
    defaults = {"skip": 0, "rank": 0, "world_size": 1}
    batches = TextStream(lambda: iter(range(count)), lambda found: {"texts": found}, 2, **defaults | options)
    found = [batch["texts"] for batch in batches]
    assert found == [batch["texts"] for batch in batches]
    return found


def test_stream_keeps_the_order() -> None:
    assert stream(5) == [[0, 1], [2, 3], [4]]
    assert stream(5, skip=3) == [[3, 4]]
    assert stream(5, skip=5) == []


@pytest.mark.parametrize("skip", [0, 2])
def test_processes_take_turns_and_have_equally_many_batches(skip: int) -> None:
    parts = [stream(11, skip=skip, rank=rank, world_size=3) for rank in range(3)]
    assert [len(part[0]) for part in parts] == [2, 2, 2]
    texts = [text for batches in zip(*parts, strict=True) for batch in batches for text in batch]
    assert texts == list(range(skip, 11))


def test_stream_reads_no_further_than_it_is_asked() -> None:
    read = []

    def texts() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    next(iter(TextStream(texts, lambda found: {"texts": found}, 4, skip=3, rank=0, world_size=1)))
    assert read == list(range(7))
