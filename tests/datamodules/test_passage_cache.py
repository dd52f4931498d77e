"""What of a file's questions becomes pairs, and what is counted."""

from pathlib import Path

import pytest

from datamodules.passage_cache import Limits, PassagePair, PassagePairs, write_pairs
from datamodules.passage_files import Answer, Question
from datamodules.passage_tokenizer import PassageTokenizer, trained
from datamodules.problems import Problems

PASSAGE = "黄河注入渤海。长江注入东海。海很大。"
TOKENIZER = PassageTokenizer(trained([PASSAGE, "黄河长江注入哪个海？什么很大？"], 100))
LIMITS = Limits(14, 4, 8)


def question(text: str, *answers: Answer | str, passage: str = PASSAGE, place: int = 1) -> Question:
    placed = tuple(Answer(answer) if isinstance(answer, str) else answer for answer in answers)
    return Question(passage, text, placed, place)


def pairs_of(folder: Path, *questions: Question, limits: Limits = LIMITS) -> PassagePairs:
    write_pairs(folder, "file", questions, Problems(), TOKENIZER, limits)
    return PassagePairs(folder)


def text(tokens: object) -> str:
    return "".join(TOKENIZER.tokens[number] for number in tokens)


def test_pairs_of_a_passage_in_two_pieces(tmp_path: Path) -> None:
    asked = [question("黄河注入哪个海？", "渤海"), question("什么很大？", "海"), question("长江注入哪个海？", "东海")]
    pairs = pairs_of(tmp_path, *asked)
    # 海 stands in both pieces.
    first = (("渤海", "海", "东海"), tuple(q.question for q in asked))
    assert [pairs.record(row) for row in range(len(pairs))] == [
        PassagePair(0, PASSAGE[:14], "渤海", "黄河注入哪个海？", True, *first),
        PassagePair(0, PASSAGE[:14], "海", "什么很大？", False, *first),
        PassagePair(0, PASSAGE[:14], "东海", "长江注入哪个海？", False, *first),
        PassagePair(1, PASSAGE[14:], "海", "什么很大？", True, ("海",), ("什么很大？",)),
    ]
    assert [text(part) for part in pairs.tokens(3)] == ["海很大。", "海", "什么很大？"]
    assert pairs.lengths.tolist() == [24, 20, 24, 10]
    assert pairs.problems.report() == []
    assert pairs.summary.startswith("1 passages, 2 pieces, 4 questions with their answers in them; 0.00% of ")


def test_place_says_which_piece(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, question("什么很大？", Answer("海", 14)))
    assert [pairs.record(row).passage for row in range(len(pairs))] == ["海很大。"]
    assert "1 pieces" in pairs.summary
    assert "1 more pieces without a question" in pairs.summary


def test_all_answers_count_and_the_first_is_learned(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, question("什么很大？", "没有", "海很大", "海", "海"), limits=Limits(4, 3, 8))
    (last,) = [pairs.record(row) for row in range(len(pairs)) if pairs.record(row).passage == "海很大。"]
    assert (last.answer, last.answers) == ("海很大", ("海很大", "海"))


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (question("什么？", "南海"), "questions whose answer is not in the passage, left out: file:1 (南海)"),
        (question("什么？", "入东海。海"), "questions whose answer is not of 1 to 4 tokens, left out: file:1 (什么？)"),
        (question("什么？", "。海"), "questions whose answer is cut in two, left out: file:1 (什么？)"),
        (question("什么" * 5, "海"), "questions that are not of 1 to 8 tokens, left out: file:1"),
        (question("\u200b", "海"), "questions that are not of 1 to 8 tokens, left out: file:1"),
        (
            question("什么？", Answer("东海", 2)),
            "answers that do not stand at their place, looked for everywhere",
        ),
    ],
)
def test_what_is_counted(asked: Question, problem: str, tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, asked, question("黄河注入哪个海？", "渤海"))
    (line,) = pairs.problems.report()
    assert f"1 {problem}" in line
    assert len(pairs) == 1 + ("everywhere" in problem)


def test_same_question_and_answer_twice(tmp_path: Path) -> None:
    once, again = question("什么很大？", "海很大"), question("什么很大？", "海很大", place=2)
    pairs = pairs_of(tmp_path, once, question("什么很大？", "海很", place=3), again)
    assert [pairs.record(row).answer for row in range(len(pairs))] == ["海很大", "海很"]
    assert pairs.problems.report() == [
        "1 questions that come twice with the same answer, of which one counts: file:2 (什么很大？)"
    ]


def test_sentence_that_is_cut_is_counted_and_so_are_unknown_tokens(tmp_path: Path) -> None:
    other = question("什么很大？", "大", passage="大" * 9 + "山" * 9)
    pairs = pairs_of(tmp_path, other)
    assert pairs.problems.report() == [
        f"1 passages with a sentence of over 14 tokens, which is cut: file:1 ({other.passage})"
    ]
    assert "1 more pieces without a question; 25.00% of 20 tokens unknown" in pairs.summary


def test_nothing(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path)
    assert len(pairs) == 0
    assert pairs.lengths.tolist() == []


def test_many_passages_have_their_own_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.passage_cache._CHUNK", 4)
    passages = [f"{'长' * length}海。" for length in range(9)]
    asked = [question("什么很大？", "海", passage=passages[row % 9], place=row) for row in range(600)]
    asked += [question("什" * (row % 7 + 1), "。", passage=passages[row % 9], place=row) for row in range(63)]
    pairs = pairs_of(tmp_path, *asked)
    records = [pairs.record(row) for row in range(len(pairs))]
    assert sum(record.first for record in records) == 9
    assert all(text(pairs.tokens(row)[0]) == record.passage for row, record in enumerate(records))
    expected = {(q.passage, q.question, q.answers[0].text) for q in asked}
    assert {(record.passage, record.question, record.answer) for record in records} == expected
