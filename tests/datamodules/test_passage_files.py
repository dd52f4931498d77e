"""Files of questions in all their formats, and what is wrong with them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.passage_files import Answer, Question, read_passages, read_questions
from datamodules.problems import Problems

FIRST = Question("黄河注入渤海。", "黄河注入哪个海？", (Answer("渤海"),), 1)


def read(path: Path) -> tuple[list[Question], Problems]:
    problems = Problems()
    return list(read_questions(path, problems)), problems


def write(path: Path, content: Any, indent: int | None = None) -> Path:
    """A list of lines, or all of it as JSON."""
    if indent is None and isinstance(content, list):
        text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in content)
    else:
        text = json.dumps(content, ensure_ascii=False, indent=indent or None)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def squad(*answers: Any) -> dict[str, Any]:
    asked = {"question": FIRST.question, "id": "1", "answers": list(answers)}
    return {"title": "黄河", "paragraphs": [{"id": "1", "context": FIRST.passage, "qas": [asked]}]}


# ---- Formats ----


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("answers", [{"answer": "渤海"}, {"answers": ["渤海"]}, {"answer": {"text": " 渤海 "}}])
@pytest.mark.parametrize("passage", ["passage", "context"])
def test_a_question_a_line(name: str, answers: dict[str, Any], passage: str, tmp_path: Path) -> None:
    line = {passage: FIRST.passage, "question": FIRST.question, **answers}
    questions, problems = read(write(tmp_path / name, [line, "", line]))
    assert questions == [FIRST, FIRST._replace(place=3)]
    assert problems.report() == []


def test_places_beside_the_answers(tmp_path: Path) -> None:
    line = {"context": FIRST.passage, "question": "?", "answers": ["渤海", "海"], "answer_starts": [4, 5]}
    questions, _ = read(write(tmp_path / "a", [line]))
    assert questions[0].answers == (Answer("渤海", 4), Answer("海", 5))


def test_question_with_passages(tmp_path: Path) -> None:
    """As WebQA and SogouQA have it, as lines and as a list."""
    found = {"passage": FIRST.passage, "answer": "渤海"}
    entry = {"question": FIRST.question, "passages": [found, {"passage": "没有。", "answer": ""}, found, 3]}
    for content, indent in (([entry], None), ([entry], 0), ([entry], 2)):
        path = write(tmp_path / "a", content, indent)
        questions, problems = read(path)
        assert questions == [FIRST, FIRST]
        assert problems.report() == [
            f"1 passages without an answer, left out: {path}:1 ('{FIRST.question}')",
            f"1 entries that are JSON but no objects {{...}}, left out: {path}:1 ('3')",
        ]


@pytest.mark.parametrize("indent", [None, 2])
def test_squad(indent: int | None, tmp_path: Path) -> None:
    answers = [{"text": " 渤海", "answer_start": 3}, {"text": "海", "answer_start": 5, "id": 3}]
    path = write(tmp_path / "a.json", {"version": "1", "data": [squad(*answers)]}, indent)
    questions, problems = read(path)
    assert questions == [FIRST._replace(answers=(Answer("渤海", 4), Answer("海", 5)))]
    assert problems.report() == []
    # A document in one line, and one alone in a file.
    for content in ([squad(*answers)], squad(*answers)):
        assert read(write(tmp_path / "b", content, indent))[0] == questions


def test_paragraph_a_line(tmp_path: Path) -> None:
    questions, _ = read(write(tmp_path / "a", squad("渤海")["paragraphs"]))
    assert questions == [FIRST]


def test_list_form_of_cmrc(tmp_path: Path) -> None:
    asked = {"query_text": FIRST.question, "query_id": "T_1", "answers": ["渤海", "海"]}
    entry = {"context_id": "T", "context_text": FIRST.passage, "qas": [asked], "title": "黄河"}
    questions, _ = read(write(tmp_path / "a", ["[", entry, ",", entry, "]"]))
    assert questions == [FIRST._replace(answers=(Answer("渤海"), Answer("海")), place=place) for place in (1, 2)]


def test_a_list_longer_than_a_line_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.text_files.LONGEST_LINE", 64)
    assert read(write(tmp_path / "a", {"data": [squad("渤海")] * 9}))[0][-1] == FIRST._replace(place=9)


# ---- What is wrong ----


def test_what_is_left_out_is_counted_by_place(tmp_path: Path) -> None:
    good = {"passage": FIRST.passage, "question": FIRST.question, "answer": "渤海"}
    lines = [
        good | {"answer": ""},
        good | {"answers": []},
        good | {"passage": 3},
        {"question": "?"},
        good | {"answer": 1921},
        good | {"question": " "},
        {"passage": "a", "question": "?"},
        {"question": "?", "passages": "a"},
        squad(),
        {"paragraphs": [{"context": "a"}, {"context": "a", "qas": {}}, {"qas": []}]},
        "[]",
        '{"passage": ',
        good | {"passage": "\ud800"},
        good,
    ]
    path = tmp_path / "a"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    questions, problems = read(path)
    assert [question.place for question in questions] == [13, 14]
    assert questions[0].passage == "\ufffd"
    assert {kind.split(",")[0]: count for kind, count in problems.counts.items()} == {
        "questions without an answer": 4,
        "entries whose passage is no text": 1,
        "entries without passage or context or context_text": 2,
        "answers that are no texts": 1,
        "entries whose question is no text": 1,
        "entries whose passages are no list": 1,
        "entries whose qas are no list": 2,
        "lines that are JSON but no objects {...}": 1,
        "lines that are not JSON": 1,
        "lines with half a surrogate pair": 1,
    }
    assert f"{path}:3 (3)" in "\n".join(problems.report())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no line that can be used; it is empty"),
        ("[]", "has no entry that can be used; it is empty"),
        ("[1, 2]", "has no entry that can be used; entry 1 is one of the entries that are JSON but no objects"),
        ('[{"a": 1}', "is neither JSON lines nor one list or object of JSON: Expecting"),
        ('{\n"a": 1\n', "line 1 is one of the lines that are not JSON"),
        ('{"a": 1}', "line 1 is one of the entries without passage or context or context_text, left out .it has a."),
        ("<html>", "line 1 is one of the lines that are not JSON, left out .*an HTML or XML page"),
        ('{"passage": "a", "question": "b"}', "has no question with an answer: 1 questions without an answer"),
    ],
)
def test_file_that_makes_no_sense(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(content)
    with pytest.raises(ValueError, match=f"{tmp_path}/a {message}|{tmp_path}/a .*{message}"):
        read(tmp_path / "a")


def test_there_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "train.json").touch()
    with pytest.raises(FileNotFoundError, match=r"passage file .*trian.json' does not .* mean 'train.json'"):
        read(tmp_path / "trian.json")


def test_damaged_gzip_file(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.gz", [{"passage": str(number)} for number in range(999)]).read_bytes()
    (tmp_path / "a.gz").write_bytes(whole[:-99])
    with pytest.raises(ValueError, match=r"a.gz, after line \d+: damaged gzip file"):
        read(tmp_path / "a.gz")


# ---- Passages alone ----


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_passages_as_objects_or_lines(name: str, tmp_path: Path) -> None:
    problems = Problems()
    path = write(tmp_path / name, [{"passage": "甲"}, {"context": "乙", "question": "?"}, {"context": "乙"}, {"a": 1}])
    assert list(read_passages(path, problems)) == ["甲", "乙"]
    assert "entries without passage" in problems.report()[0]
    write(path, [" 甲 ", "", "[1] 乙", "乙"])
    assert list(read_passages(path, Problems())) == ["甲", "[1] 乙", "乙"]


def test_passages_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n\n")
    with pytest.raises(ValueError, match=f"{tmp_path}/a has no line that can be used"):
        list(read_passages(tmp_path / "a", Problems()))


def test_overlong_line_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.text_files.LONGEST_LINE", 16)
    problems = Problems()
    assert list(read_passages(write(tmp_path / "a", ["short", "long " * 9, "end"]), problems)) == ["short", "end"]
    assert problems.report() == [f"1 lines of over a mebibyte, left out: {tmp_path}/a:2"]


# ---- Real files ----


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "questions", "faulty"),
    [("cmrc2018", 3354, 1), ("drcd_dev", 3524, 0), ("sample_WebQA", 96, 125), ("sample_SogouQA", 79, 132)],
)
def test_real_files(name: str, questions: int, faulty: int, shared_data: Path) -> None:
    found, problems = read(shared_data / "qa" / f"{name}.jsonl.gz")
    assert len(found) == questions
    assert sum(problems.counts.values()) == faulty
