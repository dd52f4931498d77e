"""Batches of texts and of candidate rows, compared with what one sees in the texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rjieba
import torch
from torch import Tensor

from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_batches import LinkingEncoder
from datamodules.linking_files import LinkingText
from datamodules.linking_state import Learned
from datamodules.pieces import PieceTokenizer
from tests.datamodules.linking import PIECES, text_of, write_knowledge, write_tokenizer

TEXTS = [
    text_of(1, "今天吃《苹果》", ("苹果", "11")),
    text_of(2, "ＡPPLE手机和香梨", ("香梨", "13"), ("手机", None)),
    text_of(3, "梨"),
]


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    path = write_knowledge(tmp_path / "kb.jsonl")
    return KnowledgeBase.open(path, str(tmp_path / "cache"), progress=False)


def encoder_of(kb: KnowledgeBase, texts: Sequence[LinkingText] = (), **options: Any) -> LinkingEncoder:
    """One that has learned from the texts, or TEXTS, unless the options say otherwise."""
    settings = {"segmenter": "chinese", "min_count": 1, "word_vectors": None, "tokenizer": None}
    learned = Learned.from_texts(texts or TEXTS, kb, kb.matcher(), **settings)
    defaults = {
        "characters": learned.characters,
        "words": [],
        "allowed": None,
        "segmenter": rjieba.cut,
        "tokenizer": None,
        "max_length": 20,
        "max_description": 50,
        "rows_per_batch": 100,
    }
    return LinkingEncoder(kb, kb.matcher(), **defaults | options)


def letters(numbers: Tensor, encoder_characters: Sequence[str]) -> str:
    return "".join(encoder_characters[number] for number in numbers.tolist())


def test_texts(kb: KnowledgeBase) -> None:
    characters = ["<padding>", "<unknown>", *"今天吃《苹果》aple手机和香"]
    batch = encoder_of(kb, characters=characters).encode(TEXTS)
    assert batch["texts"] == TEXTS
    assert batch["mask"].tolist() == [[True] * 7 + [False] * 3, [True] * 10, [True] + [False] * 9]
    assert batch["characters"].dtype == torch.int64
    assert letters(batch["characters"][0][:7], characters) == "今天吃《苹果》"
    # A full-width letter is small, but full-width still; the pear is unknown.
    assert letters(batch["characters"][1], characters) == "<unknown>pple手机和香<unknown>"
    assert batch["characters"][2].tolist() == [1] + [0] * 9
    starts = [[1, 0, 0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0], [1] + [0] * 9]
    ends = [[0, 1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [1] + [0] * 9]
    assert batch["matches"].dtype == torch.float32
    assert torch.equal(batch["matches"], torch.tensor([starts, ends]).permute(1, 2, 0).float())
    # NIL is no target.
    assert [batch["starts"][row].nonzero().tolist() for row in range(3)] == [[[4]], [[8]], []]
    assert [batch["ends"][row].nonzero().tolist() for row in range(3)] == [[[5]], [[9]], []]


def test_names_that_may_not_match(kb: KnowledgeBase) -> None:
    allowed = np.ones(kb.num_names, bool)
    number = kb.name_number("今天")
    assert number is not None
    allowed[number] = False
    matches = encoder_of(kb, allowed=allowed).encode(TEXTS[:1])["matches"]
    assert matches[0].nonzero().tolist() == [[4, 0], [5, 1]]


def test_text_that_is_too_long(kb: KnowledgeBase) -> None:
    """It is read up to there, also in the middle of a mention."""
    batch = encoder_of(kb, max_length=5).encode(TEXTS)
    assert batch["mask"].shape == (3, 5)
    assert not batch["starts"].any()
    assert batch["texts"] == TEXTS


def test_no_text(kb: KnowledgeBase) -> None:
    batch = encoder_of(kb).encode([])
    assert batch["mask"].shape == batch["starts"].shape == (0, 1)
    assert batch["matches"].shape == (0, 1, 2)
    assert batch["texts"] == []


def test_words_are_spread_over_their_characters(kb: KnowledgeBase) -> None:
    encoder = encoder_of(kb, words=["", "苹果", "手机", "类别", "pear"])
    batch = encoder.encode([text_of(1, "苹果手机好")])
    assert batch["words"].tolist() == [[1, 1, 2, 2, 0]]
    rows = encoder.table([text_of(1, "苹果")], [(0, 0, 2)], np.array([1]), 2)
    entity = kb.entity(1)
    expected = [3 if word == "类别" else 1 if word == "苹果" else 0 for word in entity.words for _ in word]
    assert 3 in expected
    assert rows["entity_words"][0].tolist() == expected
    assert rows["entity_words"].shape == rows["entity_characters"].shape


def test_rows(kb: KnowledgeBase) -> None:
    encoder = encoder_of(kb)
    mentions = [(1, 8, 10, np.array([3])), (0, 4, 6, np.array([2, 1, 0])), (0, 0, 2, np.array([], np.int64))]
    ((rows, numbers),) = encoder.rows(TEXTS, mentions, 10)
    # By the lengths of the descriptions: 8, 11, 16 and 21.
    assert numbers.tolist() == [1, 0, 2, 3]
    assert rows["text_of"].tolist() == [0, 1, 0, 0]
    pear, apple = [0] * 8 + [1, 1], [0] * 4 + [1, 1] + [0] * 4
    assert rows["mention"].tolist() == [apple, pear, apple, apple]
    features = rows["features"][[0, 2, 3], :7]
    for feature, row in zip(features, (2, 1, 0), strict=True):
        entity = kb.entity(row)
        assert feature[:, 0].tolist() == [character in entity.description for character in TEXTS[0].text]
        words = list(rjieba.cut(TEXTS[0].text))
        assert feature[:, 1].tolist() == [word in entity.words for word in words for _ in word]
    assert not rows["features"][[0, 2, 3], 7:].any()
    # 手机 is what company 10 makes: an object.
    ((phone, _),) = encoder.rows(TEXTS, [(1, 0, 5, np.array([0]))], 10)
    assert phone["features"][0, :, 2].tolist() == [0] * 5 + [1, 1] + [0] * 3


def test_descriptions_are_cut(kb: KnowledgeBase) -> None:
    """But the features see all of them."""
    characters = ["<padding>", "<unknown>", *sorted(set(kb.entity(1).description))]
    encoder = encoder_of(kb, characters=characters, words=["", "类别"], max_description=5)
    rows = encoder.table([text_of(1, "脆")], [(0, 0, 1), (0, 0, 1)], np.array([1, 4]), 1)
    assert letters(rows["entity_characters"][0], characters) == kb.entity(1).description[:5]
    assert rows["entity_words"].shape == (2, 5)
    assert rows["entity_mask"].sum(1).tolist() == [5, min(5, len(kb.entity(4).description))]
    assert rows["features"][:, 0, 0].tolist() == [1, 0]


def test_chunks_of_rows_are_the_rows(kb: KnowledgeBase) -> None:
    mentions = [(0, 4, 6, np.array([2, 1, 0])), (1, 8, 10, np.array([3])), (0, 0, 2, np.array([4]))]
    ((whole, numbers),) = encoder_of(kb).rows(TEXTS, mentions, 10)
    chunks = list(encoder_of(kb, rows_per_batch=2).rows(TEXTS, mentions, 10))
    assert [len(own) for _, own in chunks] == [2, 2, 1]
    assert np.concatenate([own for _, own in chunks]).tolist() == numbers.tolist()
    assert sorted(numbers.tolist()) == [0, 1, 2, 3, 4]
    for name in ("text_of", "mention", "features"):
        assert torch.equal(torch.cat([rows[name] for rows, _ in chunks]), whole[name])


def test_rows_of_an_entity_share_its_description(kb: KnowledgeBase) -> None:
    """Which is then read once; those of like length are together."""
    mentions = [(0, 4, 6, np.array([0, 1])), (1, 0, 5, np.array([0, 4])), (2, 0, 1, np.array([4, 1, 0]))]
    encoder = encoder_of(kb, words=["", "苹果"], rows_per_batch=4)
    asked = [entity for *_, candidates in mentions for entity in candidates.tolist()]
    chunks = list(encoder.rows(TEXTS, mentions, 10))
    meant = [np.array(asked)[numbers].tolist() for _, numbers in chunks]
    assert meant == [[4, 4, 1, 1], [0, 0, 0]]
    for (rows, _), entities in zip(chunks, meant, strict=True):
        distinct = sorted(set(entities))
        assert rows["entity_of"].tolist() == [distinct.index(entity) for entity in entities]
        apart = encoder.table(TEXTS, [(0, 0, 1)] * len(entities), np.array(entities), 10)
        assert apart["entity_of"].tolist() == list(range(len(entities)))
        for name in ("entity_characters", "entity_words", "entity_mask"):
            assert len(rows[name]) == len(distinct)
            assert torch.equal(rows[name][rows["entity_of"]], apart[name])


def test_rows_by_the_length_that_is_read(kb: KnowledgeBase) -> None:
    """Descriptions that are cut are of one length: those of an entity are together still."""
    mentions = [(0, 4, 6, np.array([1, 0, 4])), (2, 0, 1, np.array([1, 0]))]
    ((_, numbers),) = encoder_of(kb, max_description=2).rows(TEXTS, mentions, 10)
    assert numbers.tolist() == [1, 4, 0, 3, 2]


def test_no_rows(kb: KnowledgeBase) -> None:
    assert list(encoder_of(kb).rows(TEXTS, [], 10)) == []
    rows = encoder_of(kb).table(TEXTS, [], np.zeros(0, np.int64), 10)
    assert rows["mention"].shape == (0, 10)
    assert rows["features"].shape == (0, 10, 3)


def test_pieces(kb: KnowledgeBase, tmp_path: Path) -> None:
    encoder = encoder_of(kb, tokenizer=PieceTokenizer.from_pretrained(write_tokenizer(tmp_path)))
    batch = encoder.encode([text_of(1, "中 playing"), text_of(2, "文")])
    assert [[PIECES[number] for number in row] for row in batch["pieces"]] == [
        ["[CLS]", "中", "play", "##ing", "[SEP]"],
        ["[CLS]", "文", "[SEP]", "[PAD]", "[PAD]"],
    ]
    assert batch["piece_mask"].tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert batch["piece_of"].tolist() == [[1, 0, 2, 2, 2, 2, 3, 3, 3], [1] + [0] * 8]
    rows = encoder.table([text_of(1, "梨")], [(0, 0, 1)], np.array([3]), 1)
    assert rows.keys() == {"text_of", "mention", "features", "entity_of", "entity_pieces", "entity_piece_mask"}
    assert rows["entity_piece_mask"].shape == rows["entity_pieces"].shape
