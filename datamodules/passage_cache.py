"""Pieces of passages and the questions about them as tokens, in Arrow files that are written once.

A folder holds `pieces.arrow`, `pairs.arrow` and `report.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.arrow_rows import ArrowRows, write_rows
from datamodules.passage_cutting import Piece, answers_in, cut
from datamodules.passage_files import Answer, Question
from datamodules.passage_tokenizer import PassageTokenizer
from datamodules.problems import Problems

_PIECES = {"passage": "string", "tokens": "int32[]", "answers": "string[]", "questions": "string[]"}
_PAIRS = {
    "piece": "int64",
    "first": "bool",
    "answer": "string",
    "question": "string",
    "answer_tokens": "int32[]",
    "question_tokens": "int32[]",
}
# Passages that are in memory as tokens at once.
_CHUNK = 256


class Limits(NamedTuple):
    """The most tokens of each part of a sequence, [CLS] and [SEP] not counted.

    Attributes:
        passage: of a piece; longer passages are cut.
        answer: of an answer; longer ones are left out.
        question: of a question; longer ones are left out.
    """

    passage: int
    answer: int
    question: int


class PassagePair(NamedTuple):
    """A question about a piece of a passage, and its answer.

    Attributes:
        piece: number of the piece, from 0 on.
        passage: the piece.
        answer: stands in the piece.
        question: as written.
        first: whether it is the first one about its piece.
        answers: all right answers to all questions about the piece.
        questions: all of them.
    """

    piece: int
    passage: str
    answer: str
    question: str
    first: bool
    answers: tuple[str, ...]
    questions: tuple[str, ...]


class PassagePairs:
    """The questions about the pieces of a part's passages, N of them, memory-mapped.

    Args:
        folder: written by `write_pairs`.

    Attributes:
        lengths: tokens of passage, answer and question together, (N,).
        summary: what was read.
        problems: what was left out.
    """

    def __init__(self, folder: Path) -> None:
        self._pieces, self._pairs = (ArrowRows(folder / f"{name}.arrow") for name in ("pieces", "pairs"))
        report = json.loads((folder / "report.json").read_text())
        self.summary: str = report["summary"]
        self.problems = Problems()
        self.problems.update(report["problems"])
        self._piece_of = self._pairs.column("piece")
        own = self._pairs.lengths("answer_tokens") + self._pairs.lengths("question_tokens")
        self.lengths: NDArray[np.int64] = self._pieces.lengths("tokens")[self._piece_of] + own

    def __len__(self) -> int:
        return len(self._pairs)

    def tokens(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Returns the tokens of the passage's piece, of the answer and of the question."""
        answer, question = (self._pairs.numbers(f"{name}_tokens", row) for name in ("answer", "question"))
        return self._pieces.numbers("tokens", int(self._piece_of[row])), answer, question

    def record(self, row: int) -> PassagePair:
        """Returns the texts."""
        piece = int(self._piece_of[row])
        answer, question, first = (self._pairs.value(name, row) for name in ("answer", "question", "first"))
        passage, answers, questions = (self._pieces.value(n, piece) for n in ("passage", "answers", "questions"))
        return PassagePair(piece, passage, answer, question, first, tuple(answers), tuple(questions))


def write_pairs(
    folder: Path,
    path: str,
    questions: Sequence[Question],
    problems: Problems,
    tokenizer: PassageTokenizer,
    limits: Limits,
) -> None:
    """Cuts passages, looks for the answers in the pieces, and writes both as tokens.

    Args:
        folder: an empty one.
        path: of the file that the questions come from.
        questions: those about a passage need not come together.
        problems: of the file; what is left out here is added to them.
        tokenizer: of all texts.
        limits: of the tokens.
    """
    writer = _Writer(path, problems, tokenizer, limits)
    by_passage: dict[str, list[Question]] = {}
    for question in questions:
        by_passage.setdefault(question.passage, []).append(question)
    pairs: list[dict[str, Any]] = []
    # The pairs are in memory meanwhile: they are short beside the passages.
    write_rows(folder / "pieces.arrow", writer.pieces(by_passage, pairs), _PIECES)
    write_rows(folder / "pairs.arrow", pairs, _PAIRS)
    report = {"summary": writer.summary(len(by_passage), len(pairs)), "problems": problems.state()}
    (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False))


class _Writer:
    def __init__(self, path: str, problems: Problems, tokenizer: PassageTokenizer, limits: Limits) -> None:
        self._path, self._problems, self._tokenizer, self._limits = path, problems, tokenizer, limits
        self._pieces = self._silent = self._tokens = self._unknown = 0

    def summary(self, passages: int, pairs: int) -> str:
        """What was written."""
        text = f"{passages:,} passages, {self._pieces:,} pieces, {pairs:,} questions with their answers in them"
        if self._silent:
            text += f"; {self._silent:,} more pieces without a question"
        return f"{text}; {self._unknown / max(self._tokens, 1):.2%} of {self._tokens:,} tokens unknown"

    def pieces(self, by_passage: dict[str, list[Question]], pairs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yields the pieces that there are questions about, and adds these to `pairs`."""
        passages = list(by_passage)
        for start in range(0, len(passages), _CHUNK):
            chunk = passages[start : start + _CHUNK]
            asked = [question for passage in chunk for question in by_passage[passage]]
            tokens = self._encode([text for q in asked for text in (q.question, *(a.text for a in q.answers))])
            for passage, encoded in zip(chunk, self._tokenizer(chunk), strict=True):
                yield from self._of_passage(passage, encoded, by_passage[passage], tokens, pairs)

    def _encode(self, texts: list[str]) -> dict[str, NDArray[np.int64]]:
        unique = list(dict.fromkeys(texts))
        return {text: ids for text, (ids, _) in zip(unique, self._tokenizer(unique), strict=True)}

    def _of_passage(
        self,
        passage: str,
        encoded: tuple[NDArray[np.int64], NDArray[np.int64]],
        questions: Sequence[Question],
        tokens: dict[str, NDArray[np.int64]],
        pairs: list[dict[str, Any]],
    ) -> Iterator[dict[str, Any]]:
        pieces, torn = cut(passage, *encoded, self._limits.passage)
        if torn:
            kind = f"passages with a sentence of over {self._limits.passage} tokens, which is cut"
            self._add(kind, questions[0], passage)
        usable = [(q, answers) for q in questions if (answers := self._usable(q, tokens))]
        found = set[Question]()
        for piece in pieces:
            asked = [(q, texts) for q, answers in usable if (texts := answers_in(piece, answers))]
            found.update(q for q, _ in asked)
            if asked:
                pairs += self._pairs(asked, tokens)
                yield self._piece(piece, asked)
            self._silent += not asked
        for question, _ in usable:
            if question not in found:
                self._add("questions whose answer is cut in two, left out", question)

    def _usable(self, question: Question, tokens: dict[str, NDArray[np.int64]]) -> list[Answer]:
        """The answers that stand in the passage and are short enough; none if the question is too long."""
        if not 0 < len(tokens[question.question]) <= self._limits.question:
            self._add(f"questions that are not of 1 to {self._limits.question} tokens, left out", question)
            return []
        standing = [
            answer for answer in map(self._placed, [question] * len(question.answers), question.answers) if answer
        ]
        if not standing:
            self._add("questions whose answer is not in the passage, left out", question, question.answers[0].text)
            return []
        short = [answer for answer in standing if 0 < len(tokens[answer.text]) <= self._limits.answer]
        if not short:
            self._add(f"questions whose answer is not of 1 to {self._limits.answer} tokens, left out", question)
        return short

    def _placed(self, question: Question, answer: Answer) -> Answer | None:
        """An answer without its place if that is wrong; None if it is nowhere."""
        if answer.text not in question.passage:
            return None
        if answer.start is not None and not question.passage.startswith(answer.text, answer.start):
            self._add("answers that do not stand at their place, looked for everywhere", question, answer.text)
            return Answer(answer.text)
        return answer

    def _pairs(
        self, asked: Sequence[tuple[Question, list[str]]], tokens: dict[str, NDArray[np.int64]]
    ) -> Iterator[dict[str, Any]]:
        seen = set[tuple[str, str]]()
        for question, (answer, *_) in asked:
            if (question.question, answer) in seen:
                self._add("questions that come twice with the same answer, of which one counts", question)
                continue
            ids = tokens[answer], tokens[question.question]
            self._count(*ids)
            yield {
                "piece": self._pieces,
                "first": not seen,
                "answer": answer,
                "question": question.question,
                "answer_tokens": ids[0],
                "question_tokens": ids[1],
            }
            seen.add((question.question, answer))

    def _piece(self, piece: Piece, asked: Sequence[tuple[Question, list[str]]]) -> dict[str, Any]:
        self._pieces += 1
        self._count(piece.tokens)
        answers = list(dict.fromkeys(text for _, texts in asked for text in texts))
        questions = list(dict.fromkeys(question.question for question, _ in asked))
        return {"passage": piece.text, "tokens": piece.tokens, "answers": answers, "questions": questions}

    def _count(self, *tokens: NDArray[np.int64]) -> None:
        self._tokens += sum(map(len, tokens))
        self._unknown += sum(int((ids == self._tokenizer.unknown).sum()) for ids in tokens)

    def _add(self, kind: str, question: Question, detail: str = "") -> None:
        self._problems.add(kind, self._path, question.place, detail[:60] or question.question[:60])
