"""Files of JSON objects, one a line, plain or gzipped: faulty lines are counted, faulty files are errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from datamodules.checks import nearest
from datamodules.normalizing import SURROGATE
from datamodules.problems import Problems
from datamodules.text_files import read_lines

T = TypeVar("T")
# A file whose first so many lines are all faulty is not what it should be: gigabytes of others are not read.
PATIENCE = 1000


class LineError(Exception):
    """A line that cannot be used.

    Args:
        kind: as in `Problems`.
        detail: what stands there.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def existing_file(path: str | Path, argument: str) -> Path:
    """Returns the path of a file, with ~ for the home folder.

    Raises:
        FileNotFoundError: there is none; the message has the argument and the nearest name beside it.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return place
    if place.is_dir():
        raise FileNotFoundError(f"{argument} {str(path)!r} is a folder, but has to be a file")
    siblings = [str(file.name) for file in place.parent.iterdir()] if place.parent.is_dir() else []
    raise FileNotFoundError(f"{argument} {str(path)!r} does not exist{nearest(place.name, siblings)}")


def read_records(
    path: Path, problems: Problems, parse: Callable[[int, dict[str, Any]], T], entries: Sequence[Any] | None = None
) -> Iterator[T]:
    """Yields what `parse` makes of the objects of a file, in order; holds one line at a time.

    Args:
        path: UTF-8, an object a line, gzipped or not; empty lines are skipped, those of over a mebibyte left out.
        problems: counts the faulty lines.
        parse: called with a line's number, from 1 on, and its object; raises LineError where it cannot be used.
        entries: what the file holds, where it is one JSON list that was read; they are numbered in place of lines.

    Raises:
        ValueError: no line can be used, or none of the first thousand; not UTF-8; a damaged gzip file. The message
            names file and line.
    """
    first, what = "", "line" if entries is None else "entry"
    found, wrong = False, 0
    for number, read in _line_objects(path, problems) if entries is None else _entry_objects(entries):
        try:
            record = parse(number, read())
        except LineError as error:
            problems.add(error.kind, path, number, error.detail)
            first = first or f"{what} {number} is one of the {error.kind} ({error.detail})"
            wrong += 1
            if not found and wrong == PATIENCE:
                break
        else:
            found = True
            yield record
    if not found:
        raise ValueError(f"{path} has no {what} that can be used; {first or 'it is empty'}")


_Numbered = Iterator[tuple[int, Callable[[], dict[str, Any]]]]


def _line_objects(path: Path, problems: Problems) -> _Numbered:
    for number, line, is_whole in numbered_lines(path):
        yield number, partial(_object, line, is_whole, path, number, problems)


def _entry_objects(entries: Sequence[Any]) -> _Numbered:
    for number, entry in enumerate(entries, start=1):
        yield number, partial(as_object, entry)


def as_object(entry: Any) -> dict[str, Any]:
    """Returns an entry of a JSON list.

    Raises:
        LineError: it is no object.
    """
    if not isinstance(entry, dict):
        raise LineError("entries that are JSON but no objects {...}, left out", _start(json.dumps(entry)))
    return entry


def numbered_lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yields number and content of each line that has any, and whether that is all of it: about a mebibyte is."""
    number, line, is_whole = 1, "", True
    for piece in read_lines(path):
        is_whole = not line
        line = line or piece
        if piece.endswith("\n"):
            if line.strip():
                yield number, line, is_whole
            number, line = number + 1, ""
    if line.strip():
        yield number, line, is_whole


def _object(line: str, is_whole: bool, path: Path, number: int, problems: Problems) -> dict[str, Any]:
    if not is_whole:
        raise LineError("lines of over a mebibyte, left out", _start(line))
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = (
            f"{error.msg} at character {error.pos + 1}"
            if isinstance(error, json.JSONDecodeError)
            else str(error).split(";")[0]
        )
        page = ", an HTML or XML page?" if line.lstrip().startswith("<") else ""
        raise LineError("lines that are not JSON, left out", f"{what}: {_start(line)}{page}") from None
    if not isinstance(record, dict):
        raise LineError("lines that are JSON but no objects {...}, left out", _start(line))
    # Only an escape can bring half a pair: UTF-8 has none.
    if "\\u" in line and SURROGATE.search(text := json.dumps(record, ensure_ascii=False)):
        problems.add("lines with half a surrogate pair, which is read as U+FFFD", path, number)
        record = json.loads(SURROGATE.sub("\ufffd", text))
    return record


def _start(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= 40 else f"{line[:40]}...")
