"""Order, draws and parts of training texts, and the stream of texts to predict on."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.behavior import Behavior
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText
from datamodules.linking_sampling import EvaluationTexts, LengthSampler, TextStream, TrainingTexts, entities_of
from tests.datamodules.linking import text_of, write_knowledge
from tests.datamodules.test_linking_batches import encoder_of

LENGTHS = torch.randint(5, 60, (1003,), generator=torch.Generator().manual_seed(0)).tolist()
APPLE = text_of(0, "吃苹果和梨", ("苹果", "11"), ("梨", "13"))


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    path = write_knowledge(tmp_path / "kb.jsonl")
    return KnowledgeBase.open(path, str(tmp_path / "cache"), progress=False)


def training(kb: KnowledgeBase, texts: list[LinkingText], **options: Any) -> TrainingTexts:
    defaults = {"candidates": 1, "balance": None, "seed": 0}
    return TrainingTexts(texts, kb, encoder_of(kb, texts), **defaults | options)


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


# ---- Draws ----


def test_mention_and_entity_are_drawn_uniformly(kb: KnowledgeBase) -> None:
    """Of two mentions, one has three entities and one has one: 1/6, 1/6, 1/6 and 1/2."""
    data = training(kb, [APPLE])
    drawn = Counter()
    for epoch in range(3000):
        ((start, end, entities, right),) = data._draws(APPLE, epoch, 0)
        (entity,) = entities.tolist()
        drawn[start, end, entity, right] += 1
    assert drawn.keys() == {(1, 3, 0, 1), (1, 3, 1, 1), (1, 3, 2, 1), (4, 5, 3, 3)}
    # Four standard deviations.
    assert abs(drawn[4, 5, 3, 3] - 1500) < 110
    assert all(abs(drawn[1, 3, entity, 1] - 500) < 82 for entity in range(3))


@pytest.mark.parametrize(("balance", "expected"), [(0.5, 0.5), (1.0, 1.0), (0.0, 0.0), (None, 1 / 3)])
def test_how_often_the_right_one_is_taken(kb: KnowledgeBase, balance: float | None, expected: float) -> None:
    text = text_of(0, "苹果", ("苹果", "11"))
    data = training(kb, [text], balance=balance)
    drawn = [data._draws(text, epoch, 0)[0][2].item() for epoch in range(1000)]
    assert abs(sum(row == 1 for row in drawn) / 1000 - expected) < 0.065


@pytest.mark.parametrize("candidates", [2, 3, 9])
def test_several_candidates_hold_the_right_one_and_none_twice(kb: KnowledgeBase, candidates: int) -> None:
    data = training(kb, [APPLE], candidates=candidates)
    drawn = {tuple(data._draws(APPLE, epoch, 0)[0][2].tolist()) for epoch in range(200)}
    others = {2: {(1, 0), (1, 2)}}.get(candidates, {(1, 0, 2), (1, 2, 0)})
    assert drawn == {*others, (3,)}


def test_right_entity_without_the_name(kb: KnowledgeBase) -> None:
    """Annotators link 今天 to an apple: it is one of the candidates all the same."""
    text = text_of(0, "今天", ("今天", "11"))
    drawn = {tuple(training(kb, [text], candidates=5)._draws(text, epoch, 0)[0][2].tolist()) for epoch in range(5)}
    assert drawn == {(1, 4)}
    unknown = text_of(0, "香蕉", ("香蕉", "13"))
    assert training(kb, [unknown])._draws(unknown, 0, 0)[0][2].tolist() == [3]


def test_batch_of_texts_with_and_without_mentions(kb: KnowledgeBase) -> None:
    texts = [text_of(0, "苹果", ("苹果", None)), APPLE, text_of(2, "梨", ("梨", "99")), text_of(3, "没有")]
    data = training(kb, texts, candidates=3)
    batch = data.__getitems__([0, 1, 2, 3])
    assert "texts" not in batch
    rows = batch["rows"]
    assert set(rows["text_of"].tolist()) == {1}
    assert rows["linked"].sum() == 1
    # An id that is unknown is a mention without an entity.
    assert batch["starts"][2].tolist() == [1, 0, 0, 0, 0]
    empty = data.__getitems__([0, 3])["rows"]
    assert empty["linked"].shape == empty["text_of"].shape == (0,)


def test_mention_beyond_what_is_read_is_never_drawn(kb: KnowledgeBase) -> None:
    data = TrainingTexts([APPLE], kb, encoder_of(kb, max_length=4), candidates=1, balance=None, seed=0)
    assert {data._draws(APPLE, epoch, 0)[0][0] for epoch in range(50)} == {1}


def test_draws_hang_on_seed_epoch_and_text_alone(kb: KnowledgeBase) -> None:
    texts = [text_of(number, "苹果", ("苹果", "11")) for number in range(60)]
    data = training(kb, texts)
    links = data.__getitems__(range(60, 120))["rows"]["linked"]
    assert torch.equal(data.__getitems__(list(reversed(range(60, 120))))["rows"]["linked"].flip(0), links)
    others = [data.__getitems__(range(60)), training(kb, texts, seed=1).__getitems__(range(60, 120))]
    assert all(not torch.equal(other["rows"]["linked"], links) for other in others)


def test_evaluation_has_the_texts(kb: KnowledgeBase) -> None:
    batch = EvaluationTexts([APPLE, text_of(1, "梨")], encoder_of(kb)).__getitems__([1, 0])
    assert [text.id for text in batch["texts"]] == ["1", "0"]
    assert "rows" not in batch


# ---- Candidates ----


def test_candidates_with_and_without_training_links(kb: KnowledgeBase) -> None:
    texts = [text_of(number, "苹果", ("苹果", entity)) for number, entity in enumerate(["12", "10", "12"])]
    behavior = Behavior.fit(texts, kb.matcher(), kb)
    assert entities_of(kb, APPLE, 1, 3).tolist() == [0, 1, 2]
    # 10 is linked once only.
    assert entities_of(kb, APPLE, 1, 3, behavior).tolist() == [2]
    assert entities_of(kb, APPLE, 4, 5, behavior).tolist() == [3]
    assert entities_of(kb, APPLE, 0, 1, behavior).tolist() == []


# ---- Stream ----


def stream(kb: KnowledgeBase, count: int, **options: int) -> list[list[str]]:
    texts = [text_of(number, "梨") for number in range(count)]
    defaults = {"skip": 0, "rank": 0, "world_size": 1}
    batches = TextStream(lambda: iter(texts), encoder_of(kb), 2, **defaults | options)
    found = [[text.id for text in batch["texts"]] for batch in batches]
    assert found == [[text.id for text in batch["texts"]] for batch in batches]
    return found


def test_stream_keeps_the_order(kb: KnowledgeBase) -> None:
    assert stream(kb, 5) == [["0", "1"], ["2", "3"], ["4"]]
    assert stream(kb, 5, skip=3) == [["3", "4"]]
    assert stream(kb, 5, skip=5) == []


@pytest.mark.parametrize("skip", [0, 2])
def test_processes_take_turns_and_have_equally_many_batches(kb: KnowledgeBase, skip: int) -> None:
    parts = [stream(kb, 11, skip=skip, rank=rank, world_size=3) for rank in range(3)]
    assert [len(part[0]) for part in parts] == [2, 2, 2]
    ids = [name for batches in zip(*parts, strict=True) for batch in batches for name in batch]
    assert ids == [str(number) for number in range(skip, 11)]


def test_stream_reads_no_further_than_it_is_asked(kb: KnowledgeBase) -> None:
    read = []

    def texts() -> Any:
        for number in range(100):
            read.append(number)
            yield text_of(number, "梨")

    next(iter(TextStream(texts, encoder_of(kb), 4, skip=3, rank=0, world_size=1)))
    assert read == list(range(7))
