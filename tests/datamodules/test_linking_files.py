"""Texts with mentions: the competition's format, and what is wrong in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.linking_files import LinkingText, Mention, read_texts, to_record
from datamodules.problems import Problems
from tests.datamodules.knowledge import write_lines


def mention(entity: Any, surface: Any, offset: Any) -> dict[str, Any]:
    return {"kb_id": entity, "mention": surface, "offset": offset}


def line(text: Any, *mentions: Any, number: Any = "1") -> dict[str, Any]:
    return {"text_id": number, "text": text, "mention_data": list(mentions)}


def read(folder: Path, *lines: Any, **options: Any) -> tuple[list[LinkingText], Problems]:
    problems = Problems()
    return list(read_texts(write_lines(folder / "a.json", lines), problems, **options)), problems


EXACT = [
    line("南京南站:坐高铁", mention("311223", "南京南站", "0"), mention("NIL", "高铁", "6")),
    line("《湖上草》 by Liu Rushi", mention("16346", "湖上草", "1"), mention("7", "Liu Rushi", "9"), number="2"),
    line("无", number="3"),
]


def test_what_is_read_is_written(tmp_path: Path) -> None:
    texts, problems = read(tmp_path, *EXACT)
    assert texts[0] == LinkingText("1", "南京南站:坐高铁", (Mention(0, 4, "311223"), Mention(6, 8, None)))
    assert [to_record(text) for text in texts] == EXACT
    assert problems.counts == {"mentions that are NIL, not used": 1}


def test_texts_to_predict_on(tmp_path: Path) -> None:
    texts, problems = read(
        tmp_path, {"text_id": 5, "text": "a"}, {"text": "b"}, {"text_id": "x", "text": "c", "mention_data": None}
    )
    assert texts == [LinkingText("5", "a"), LinkingText("#2", "b"), LinkingText("x", "c")]
    assert problems.counts == {"texts without a text_id, which get their line's number": 1}


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.json", ["not JSON", line("one"), line("two"), "neither"])
    problems = Problems()
    texts = read_texts(path, problems)
    assert next(texts).text == "one"
    assert sum(problems.counts.values()) == 1


@pytest.mark.parametrize("text", [None, 5, "", "  ", ["a"]])
def test_lines_without_a_text(tmp_path: Path, text: Any) -> None:
    texts, problems = read(tmp_path, line(text), line("good", number="2"))
    assert [found.id for found in texts] == ["2"]
    assert problems.report() == [f'1 lines without a text, left out: {tmp_path}/a.json:1 ("text" is {text!r})']


def test_mention_data_that_is_no_list(tmp_path: Path) -> None:
    texts, problems = read(tmp_path, {**line("a"), "mention_data": {"kb_id": "1"}}, line("good", number="2"))
    assert [found.id for found in texts] == ["2"]
    assert problems.counts == {"lines whose mention_data is no list, left out": 1}


@pytest.mark.parametrize(
    "wrong",
    ["x", None, {}, mention("1", "", "0"), mention("", "胜利", "0"), mention(None, "胜利", "0"), mention("1", 5, "0"),
     mention("1", "胜利", None), mention("1", "胜利", True), mention("1", "胜利", 0.0)],
)  # fmt: skip
def test_mentions_that_lack_something(tmp_path: Path, wrong: Any) -> None:
    (text,), problems = read(tmp_path, line("胜利油田", wrong, mention("2", "油田", 2)))
    assert text.mentions == (Mention(2, 4, "2"),), "and a number may be one"
    assert problems.counts == {'mentions that lack "mention", "kb_id" or "offset", left out': 1}
    assert f"{tmp_path}/a.json:1 (" in problems.report()[0]


@pytest.mark.parametrize("offset", ["1", "-2", "4", "99", "9" * 5000, "x", "2.0", ""])
def test_wrong_offsets(tmp_path: Path, offset: str) -> None:
    (text,), problems = read(tmp_path, line("胜利油田", mention("1", "油田", offset), mention("2", "胜利", "0")))
    assert text.mentions == (Mention(0, 2, "2"),)
    (report,) = problems.report()
    if offset:
        assert report.endswith(f"left out: {tmp_path}/a.json:1 ('油田' at {offset[:20]}, but it is at 2)")
    else:
        assert "lack" in report


def test_offsets_count_characters(tmp_path: Path) -> None:
    """Not bytes, nor UTF-16's units, and capitals that have two small letters move nothing."""
    text = "😀İＡＢe\u0301胜利Abc"
    (found,), problems = read(
        tmp_path, line(text, mention("1", "胜利", "6"), mention("2", "ABC", "8"), mention("3", "胜利", "7"))
    )
    assert [text[start:end] for start, end, _ in found.mentions] == ["胜利", "Abc"]
    assert to_record(found)["mention_data"][1] == mention("2", "Abc", "8")
    assert problems.counts == {"mentions that do not stand at their offset, left out": 1}


def test_half_a_surrogate_pair_keeps_the_places(tmp_path: Path) -> None:
    (found,), problems = read(tmp_path, json.dumps(line("\ud83d胜利", mention("1", "胜利", "1"))))
    assert found == LinkingText("1", "\ufffd胜利", (Mention(1, 3, "1"),))
    assert len(problems.counts) == 1


def test_duplicates(tmp_path: Path) -> None:
    one = mention("1", "胜利", "0")
    texts, problems = read(tmp_path, line("胜利", one, one, mention("2", "胜利", "0")), line("胜利"))
    assert [len(text.mentions) for text in texts] == [2, 0]
    assert problems.report() == [
        f"1 texts that have the same mention twice, of which one counts: {tmp_path}/a.json:1",
        f"1 texts whose text_id came before, kept: {tmp_path}/a.json:2 ('1')",
    ]


def test_unknown_ids_stay(tmp_path: Path) -> None:
    (text,), problems = read(tmp_path, line("胜利", mention("5", "胜利", "0")), is_known={"6"}.__contains__)
    assert text.mentions == (Mention(0, 2, "5"),)
    kind = "mentions whose kb_id is not in the knowledge base, which cannot be linked"
    assert problems.report() == [f"1 {kind}: {tmp_path}/a.json:1 ('5')"]


def test_long_texts_stay_whole(tmp_path: Path) -> None:
    texts, problems = read(tmp_path, line("a" * 9, mention("1", "a", "8")), line("b" * 8, number="2"), limit=8)
    assert [len(text.text) for text in texts] == [9, 8]
    assert texts[0].mentions == (Mention(8, 9, "1"),)
    assert problems.report() == [
        f"1 texts of over 8 characters, searched up to there: {tmp_path}/a.json:1 (9 characters)"
    ]


def test_files_of_another_kind(tmp_path: Path) -> None:
    knowledge = [{"subject_id": "1", "subject": "胜利", "alias": [], "type": [], "data": []}] * 3
    with pytest.raises(
        ValueError, match=r'a\.json has no line .*line 1 is one of the lines without a text.*\(no "text"\)'
    ):
        read(tmp_path, *knowledge)
    with pytest.raises(FileNotFoundError, match=r"text file .*b\.json' does not exist; did you mean 'a\.json'"):
        read_texts(tmp_path / "b.json", Problems())
