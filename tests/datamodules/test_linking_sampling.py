"""What is drawn for training texts, and which entities are candidates."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.behavior import Behavior
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText
from datamodules.linking_sampling import EvaluationTexts, TrainingTexts, entities_of
from tests.datamodules.linking import text_of, write_knowledge
from tests.datamodules.test_linking_batches import encoder_of

APPLE = text_of(0, "吃苹果和梨", ("苹果", "11"), ("梨", "13"))


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    path = write_knowledge(tmp_path / "kb.jsonl")
    return KnowledgeBase.open(path, str(tmp_path / "cache"), progress=False)


def training(kb: KnowledgeBase, texts: list[LinkingText], **options: Any) -> TrainingTexts:
    defaults = {"candidates": 1, "balance": None, "seed": 0}
    return TrainingTexts(texts, kb, encoder_of(kb, texts), **defaults | options)


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
