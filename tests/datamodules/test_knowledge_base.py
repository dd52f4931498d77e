"""The knowledge base in files: entities by row and id, names by number, and when it is read anew."""

import gzip
import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datamodules import knowledge_base, knowledge_writer
from datamodules.knowledge_base import Entity, KnowledgeBase
from tests.datamodules.knowledge import entity, opened, write_lines

VICTORIES = [
    entity(10, "胜利", "胜利油田", 简介="中国的油田"),
    entity(3, "《胜利》", 类型="小说", 作者="Joseph Conrad"),
    entity(7, "胜利油田", "SLOF"),
]


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    return opened(tmp_path, VICTORIES)


def test_entities(kb: KnowledgeBase) -> None:
    assert len(kb) == 3
    assert kb.entity(1) == Entity(
        id="3",
        subject="《胜利》",
        types=["Thing"],
        description="类型:小说\n作者:joseph conrad\n胜利",
        words=["类型", ":", "小说", "\n", "作者", ":", "joseph", " ", "conrad", "\n", "胜利"],
        objects=["小说"],
    )
    assert [kb.id(row) for row in range(3)] == ["10", "3", "7"]


def test_rows_of_ids(kb: KnowledgeBase) -> None:
    assert [kb.row(entity) for entity in ("10", "3", "7")] == [0, 1, 2]
    assert [kb.row(entity) for entity in ("1", "", "100", "\ud800")] == [None] * 4


def test_ids_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (knowledge_base, knowledge_writer):
        monkeypatch.setattr(module, "id_hash", lambda entity: 2**64 - 1 if entity != "4" else 5)
    kb = opened(tmp_path, [entity(number, "a") for number in range(1, 6)])
    assert [kb.row(str(number)) for number in range(7)] == [None, 0, 1, 2, 3, 4, None]


def test_names_and_candidates(kb: KnowledgeBase) -> None:
    assert kb.num_names == 3
    assert [kb.name(number) for number in range(3)] == ["胜利", "胜利油田", "slof"]
    assert [kb.name_number(name) for name in ("胜利", "《胜利油田》", "SLoF", "胜")] == [0, 1, 2, None]
    assert [kb.candidates(number).tolist() for number in range(3)] == [[0, 1], [0, 2], [2]]


def test_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (knowledge_base, knowledge_writer):
        monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(knowledge_base._Rows, "_MOST_VALUES", 3)
    kb = opened(
        tmp_path, [entity(number, f"name {number}", f"all {number % 3}", a=f"{number}") for number in range(19)]
    )
    for row in (*range(19), *range(18, -1, -3)):
        found = kb.entity(row)
        assert (found.id, found.description) == (str(row), f"a:{row}\nname {row}, all {row % 3}")
        assert "".join(found.words) == found.description
        assert kb.row(str(row)) == row
        assert kb.name(kb.name_number(f"name {row}") or 0) == f"name {row}"
    assert kb.candidates(kb.name_number("all 1") or 0).tolist() == [1, 4, 7, 10, 13, 16]


def test_words_longer_than_a_number_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge_writer, "_LONGEST_WORD", 4)
    kb = opened(tmp_path, [entity(1, "a", b="0123456789 12")], segmenter="whitespace")
    assert kb.entity(0).words == ["b:01", "2345", "6789", " ", "12", "\n", "a"]


def test_what_occurs_in_the_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (knowledge_base, knowledge_writer):
        monkeypatch.setattr(module, "BATCH", 4)
    kb = opened(tmp_path, [entity(number, f"Name {number}", 类型="小说" * (number % 3)) for number in range(9)])
    entities = [kb.entity(row) for row in range(9)]
    assert kb.description_lengths.tolist() == [len(found.description) for found in entities]
    words = kb.words()
    assert set(words) == set().union(*(found.words for found in entities))
    assert len(words) == len(set(words))
    counted = Counter("".join(found.description for found in entities))
    for least in (1, 9, 10):
        found = kb.character_counts().characters(least)[2:]
        assert sorted(found) == sorted(character for character, count in counted.items() if count >= least)


def test_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(tmp_path, VICTORIES)
    path = tmp_path / "kb.json"
    monkeypatch.setattr(knowledge_base, "read_entities", lambda *_: pytest.fail("read again"))
    again = KnowledgeBase.open(path, str(tmp_path / "cache"))
    assert (again.folder, again.entity(0)) == (first.folder, first.entity(0))
    monkeypatch.undo()
    other = KnowledgeBase.open(path, str(tmp_path / "cache"), segmenter="whitespace", progress=False)
    assert other.folder != first.folder, "words of another kind"
    assert other.fingerprint == first.fingerprint
    assert opened(tmp_path, VICTORIES[:2]).folder != first.folder
    monkeypatch.setattr(knowledge_base, "_VERSION", knowledge_base._VERSION + 1)
    assert opened(tmp_path, VICTORIES).folder != first.folder, "files of another kind"


def test_default_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    kb = KnowledgeBase.open(write_lines(tmp_path / "kb", VICTORIES), progress=False)
    assert kb.folder.parent == tmp_path / "home" / "litspaces" / "knowledge"


def test_gzipped_file_under_a_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = "".join(json.dumps(line) + "\n" for line in VICTORIES)
    (tmp_path / "kb.gz").write_bytes(gzip.compress(lines.encode()))
    kb = KnowledgeBase.open(tmp_path / "kb.gz", str(tmp_path / "cache"))
    assert kb.fingerprint == opened(tmp_path, VICTORIES).fingerprint
    assert "Reading the knowledge base" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"subject_id": "11"}, {"subject": "胜"}, {"alias": []}, {"data": []}])
def test_fingerprint(tmp_path: Path, change: dict[str, Any]) -> None:
    before = opened(tmp_path, VICTORIES).fingerprint
    assert opened(tmp_path, [{**VICTORIES[0], **change}, *VICTORIES[1:]]).fingerprint != before


def test_problems_are_told_at_every_opening(tmp_path: Path) -> None:
    for kb in (
        opened(tmp_path, ["no JSON", *VICTORIES]),
        KnowledgeBase.open(tmp_path / "kb.json", str(tmp_path / "cache")),
    ):
        assert kb.problems.counts == {"lines that are not JSON, left out": 1}
        assert "kb.json:1 (" in kb.problems.report()[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"kb\.json has no line that can be used; it is empty"),
        (["<html>"], r"kb\.json has no line that can be used; line 1 is one of the lines that are not JSON"),
        ([entity(1, "《》")], "no entity of the knowledge base has a name"),
    ],
)
def test_knowledge_bases_without_knowledge(tmp_path: Path, lines: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, lines)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"], "nothing is kept"


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"knowledge base '.*kb\.jso' does not exist"):
        KnowledgeBase.open(tmp_path / "kb.jso")
    with pytest.raises(ValueError, match=r"segmenter is 'chines', but has to be .*did you mean 'chinese'"):
        opened(tmp_path, VICTORIES, segmenter="chines")


def test_copy_in_another_process(kb: KnowledgeBase) -> None:
    copy = pickle.loads(pickle.dumps(kb))
    assert copy.entity(2) == kb.entity(2)
    assert copy.row("7") == 2
