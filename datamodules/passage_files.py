"""Files of questions about passages, plain or gzipped, and of passages alone.

What a file is shows from its content: JSON lines, one JSON list, or one JSON object with a list under "data". What an
entry of it is shows from its keys:

- {"question", "passages": [{"passage", "answer"}]}: WebQA and SogouQA, passages that were searched for a question;
- {"paragraphs": [{"context", "qas": [...]}]}: SQuAD, DRCD and CMRC 2018, a document; or one such paragraph;
- {"context_text", "qas": [{"query_text", "answers"}]}: CMRC 2018's own form;
- {"passage" or "context", "question", "answer" or "answers"}: one question.

An answer is a string, or {"text", "answer_start"}, its place counted in characters; "answer_starts" beside "answers"
are places too. Where a file gives no places, an answer stands wherever it occurs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.json_lines import LineError, as_object, existing_file, numbered_lines, read_records
from datamodules.normalizing import SURROGATE
from datamodules.problems import Problems
from datamodules.text_files import open_bytes


class Answer(NamedTuple):
    """An answer to a question about a passage.

    Attributes:
        text: as written.
        start: position of its first character in the passage; None where the file does not say it.
    """

    text: str
    start: int | None = None


class Question(NamedTuple):
    """A question about a passage, and what is right in answer to it.

    Attributes:
        passage: all of it, as written.
        question: likewise.
        answers: at least one.
        place: of its entry in the file: the line, or the number in the list, from 1 on.
    """

    passage: str
    question: str
    answers: tuple[Answer, ...]
    place: int


_Count = Callable[[str, str], None]


def read_questions(path: str | Path, problems: Problems) -> Iterator[Question]:
    """Yields the questions of a file in their order; JSON lines are read one at a time, a list as a whole.

    Args:
        path: in one of the formats above, .gz or not.
        problems: counts what is left out, with file and number of the entry.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing in it can be used, or it is damaged, or not UTF-8; the message names file and entry.
    """
    file = existing_file(path, "passage file")

    def parse(place: int, record: dict[str, Any]) -> list[Question]:
        def count(kind: str, detail: str) -> None:
            problems.add(kind, file, place, detail)

        return [Question(*found, place) for found in _questions(record, count)]

    is_empty = True
    for questions in read_records(file, problems, parse, _whole(file)):
        is_empty = is_empty and not questions
        yield from questions
    if is_empty:
        raise ValueError(f"{file} has no question with an answer: {'; '.join(problems.report())}")


def read_passages(path: str | Path, problems: Problems) -> Iterator[str]:
    """Yields the passages of a file in their order, and holds one at a time.

    Args:
        path: JSON lines with "passage" or "context", or lines of text, if the first one does not begin with {; .gz or
            not. One that is the same as the one before, as where several questions are asked, comes once.
        problems: counts what is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing in it can be used, or it is damaged, or not UTF-8; the message names file and line.
    """
    file, last = existing_file(path, "passage file"), ""
    first = next(numbered_lines(file), (1, "", True))[1]
    passages = _json_passages(file, problems) if first.lstrip().startswith("{") else _text_passages(file, problems)
    for passage in passages:
        if passage != last:
            yield passage
        last = passage


def _json_passages(file: Path, problems: Problems) -> Iterator[str]:
    return read_records(file, problems, lambda _, record: _passage(record))


def _text_passages(file: Path, problems: Problems) -> Iterator[str]:
    found = False
    for number, line, is_whole in numbered_lines(file):
        if is_whole:
            found = True
            yield line.strip()
        else:
            problems.add("lines of over a mebibyte, left out", file, number)
    if not found:
        raise ValueError(f"{file} has no line that can be used")


# ---- Containers ----


def _whole(file: Path) -> list[Any] | None:
    """The entries of a file that is one list or object; None for one of JSON lines, or of what is no JSON at all."""
    _, line, is_all = next(numbered_lines(file), (1, "", True))
    line = line.strip()
    if not line.startswith(("[", "{")) or (is_all and _is_record(line)):
        return None
    with open_bytes(file) as opened:
        try:
            found = json.loads(opened.read().decode("utf-8-sig"))
        except (ValueError, RecursionError, EOFError, OSError) as error:
            if line.startswith("{") and is_all:
                return None
            raise ValueError(f"{file} is neither JSON lines nor one list or object of JSON: {error}") from None
    if isinstance(found, dict):
        return found["data"] if isinstance(found.get("data"), list) else [found]
    return list(found)


def _is_record(line: str) -> bool:
    """Whether a line is an object that stands for itself, so that others follow in lines of their own."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        # A damaged one still ends so; the first line of an object that is written over many lines does not.
        return line.startswith("{") and line.endswith("}")
    return isinstance(found, dict) and not isinstance(found.get("data"), list)


# ---- Entries ----

_Parts = tuple[str, str, tuple[Answer, ...]]


def _questions(record: dict[str, Any], count: _Count) -> Iterator[_Parts]:
    """Yields passage, question and answers of all that an entry asks."""
    if "paragraphs" in record:
        for paragraph in _list(record, "paragraphs"):
            yield from _each(paragraph, count, lambda found: _paragraph(found, count))
    elif "qas" in record:
        yield from _paragraph(record, count)
    elif "passages" in record:
        question = _text(record, "question")
        for passage in _list(record, "passages"):
            yield from _each(passage, count, lambda found: _one(_passage(found), question, found, "passages", count))
    else:
        yield from _one(_passage(record), _text(record, "question"), record, "questions", count)


def _paragraph(record: dict[str, Any], count: _Count) -> Iterator[_Parts]:
    passage = _passage(record)

    def parse(asked: dict[str, Any]) -> Iterator[_Parts]:
        return _one(passage, _text(asked, "question", "query_text"), asked, "questions", count)

    for asked in _list(record, "qas"):
        yield from _each(asked, count, parse)


def _each(entry: Any, count: _Count, parse: Callable[[dict[str, Any]], Iterator[_Parts]]) -> Iterator[_Parts]:
    """Yields what is in a part of an entry; the other parts can be used where this one can't."""
    try:
        yield from parse(as_object(entry))
    except LineError as error:
        count(error.kind, error.detail)


def _one(passage: str, question: str, record: dict[str, Any], what: str, count: _Count) -> Iterator[_Parts]:
    """Yields a question with its answers, unless it has none: `what` are counted then."""
    found = record.get("answers", record.get("answer"))
    entries = found if isinstance(found, list) else [] if found is None else [found]
    starts = record.get("answer_starts")
    places = starts if isinstance(starts, list) and len(starts) == len(entries) else [None] * len(entries)
    answers = [_answer(entry, place) for entry, place in zip(entries, places, strict=True)]
    kept = tuple(answer for answer in answers if answer.text)
    if kept:
        yield passage, question, kept
    else:
        count(f"{what} without an answer, left out", repr(question)[:60])


def _answer(entry: Any, place: Any) -> Answer:
    if isinstance(entry, dict):
        entry, place = entry.get("text"), entry.get("answer_start")
    if not isinstance(entry, str):
        raise LineError("answers that are no texts, left out with their question", repr(entry)[:40])
    text = SURROGATE.sub("\ufffd", entry)
    start = place if isinstance(place, int) and not isinstance(place, bool) and place >= 0 else None
    # What is stripped off the front moves the start.
    begin = len(text) - len(text.lstrip())
    return Answer(text.strip(), None if start is None else start + begin)


def _passage(record: dict[str, Any]) -> str:
    return _text(record, "passage", "context", "context_text")


def _text(record: dict[str, Any], *names: str) -> str:
    """The text under the first of these names that there is."""
    for name in names:
        if name in record:
            value = record[name]
            if isinstance(value, str) and value.strip():
                return SURROGATE.sub("\ufffd", value)
            raise LineError(f"entries whose {name} is no text, left out", repr(value)[:40])
    wanted = " or ".join(names)
    raise LineError(f"entries without {wanted}, left out", f"it has {', '.join(map(str, record)) or 'nothing'}"[:80])


def _list(record: dict[str, Any], name: str) -> list[Any]:
    value = record.get(name)
    if isinstance(value, list):
        return value
    raise LineError(f"entries whose {name} are no list, left out", repr(value)[:40])
