"""Entities of a file: names, descriptions, and what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from datamodules.knowledge_files import EntityRecord, read_entities
from datamodules.problems import Problems
from tests.datamodules.knowledge import entity, write_lines


def read(folder: Path, *lines: Any) -> tuple[list[EntityRecord], Problems]:
    problems = Problems()
    return list(
        read_entities(write_lines(folder / "kb.json", lines), problems),
    ), problems


def test_entity(tmp_path: Path) -> None:
    (found,), problems = read(
        tmp_path,
        entity(7, "《Titanic》", "泰坦尼克号", "titanic", 类型="Film", 简介="İ" * 11, 国家="美国", 产地="美国"),
    )
    assert found == EntityRecord(
        "7",
        "《Titanic》",
        ["Thing"],
        ["titanic", "泰坦尼克号"],
        f"类型:film\n简介:{'İ' * 11}\n国家:美国\n产地:美国\ntitanic, 泰坦尼克号",
        ["film", "美国"],
    )
    assert not problems.counts


def test_objects_of_ten_characters_are_short(tmp_path: Path) -> None:
    (found,), _ = read(tmp_path, entity(1, "a", b="x" * 10, c="y" * 11, d=""))
    assert found.objects == ["x" * 10]


def test_what_may_be_absent_or_a_number(tmp_path: Path) -> None:
    (found,), problems = read(
        tmp_path, {"subject_id": 7, "subject": "a", "type": "Thing", "data": [{"predicate": "born", "object": 1925}]}
    )
    assert found == EntityRecord("7", "a", ["Thing"], ["a"], "born:1925\na", ["1925"])
    assert not problems.counts


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"subject_id": None}, "lines without a subject_id, left out"),
        ({"subject_id": ""}, "lines without a subject_id, left out"),
        ({"subject": None}, "lines without a subject, left out"),
        ({"subject": " "}, "lines without a subject, left out"),
        ({"subject_id": "9"}, "entities whose subject_id came before, left out"),
    ],
)
def test_entities_that_are_left_out(tmp_path: Path, change: dict[str, Any], kind: str) -> None:
    found, problems = read(tmp_path, entity(9, "a"), {**entity(1, "b"), **change}, entity(2, "c"))
    assert [record.id for record in found] == ["9", "2"]
    assert problems.counts == {kind: 1}
    assert f"{tmp_path}/kb.json:2 (" in problems.report()[0]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"alias": ["b", None, ["c"]]}, "lines with something in alias that is no text, left out"),
        ({"alias": {"x": 1}}, "lines with something in alias that is no text, left out"),
        ({"type": [None]}, "lines with something in type that is no text, left out"),
        ({"data": ["x"]}, 'lines with something in data that has no "predicate" and "object", left out'),
        ({"data": "x"}, 'lines with something in data that has no "predicate" and "object", left out'),
        ({"data": [{"predicate": "p"}]}, 'lines with something in data that has no "predicate" and "object", left out'),
        (
            {"subject": "《》", "alias": []},
            "entities without a name that is more than 《》 and white space, never linked",
        ),
    ],
)
def test_entities_that_stay_without_a_part(tmp_path: Path, change: dict[str, Any], kind: str) -> None:
    found, problems = read(tmp_path, {**entity(1, "a"), **change})
    assert [record.id for record in found] == ["1"]
    assert problems.counts == {kind: 1}


def test_long_names(tmp_path: Path) -> None:
    (found,), problems = read(tmp_path, entity(1, "a", "b" * 1000, "c" * 1001))
    assert found.names == ["a", "b" * 1000]
    assert problems.counts == {"entities with a name of over 1000 characters, which is left out": 1}


def test_files_of_another_kind(tmp_path: Path) -> None:
    text = {"text_id": "1", "text": "x", "mention_data": []}
    with pytest.raises(ValueError, match=r'line 1 is one of the lines without a subject_id.*\(no "subject_id"\)'):
        read(tmp_path, text, text)
    with pytest.raises(ValueError, match=r"kb\.json has no line that can be used; it is empty"):
        read(tmp_path)
