"""Knowledge bases in the format of CCKS 2019's entity-linking task, read line by line.

A line is {"alias": ["胜利油田"], "subject_id": "10001", "subject": "胜利", "type": ["Thing"], "data": [{"predicate":
"摘要", "object": "..."}]}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.json_lines import LineError, read_records
from datamodules.linking_files import plain
from datamodules.normalizing import normalize, normalize_name
from datamodules.problems import Problems

# Objects of up to so many characters may be names of something (the article's number).
SHORT_OBJECT = 10
# The library that finds names goes one call deeper for each character, and ends the process at a million.
LONGEST_NAME = 1000
_Count = Callable[..., None]


class EntityRecord(NamedTuple):
    """An entity as the file has it.

    Attributes:
        id: its subject_id.
        subject: as written.
        types: as written.
        names: the distinct normalized names, the subject's first.
        description: a line "predicate:object" an attribute and one of all names, normalized (the article's step 1).
        objects: the distinct normalized objects of at most ten characters.
    """

    id: str
    subject: str
    types: list[str]
    names: list[str]
    description: str
    objects: list[str]


def read_entities(path: Path, problems: Problems) -> Iterator[EntityRecord]:
    """Yields the entities of a file in order; counts what is wrong. Of those with the same id the first one counts.

    Raises:
        ValueError: no line is an entity, or the file is damaged or not UTF-8; with file and line.
    """
    seen: set[str] = set()

    def parse(line: int, record: dict[str, Any]) -> EntityRecord:
        entity = _entity(record, lambda kind, detail="": problems.add(kind, path, line, detail))
        if entity.id in seen:
            raise LineError("entities whose subject_id came before, left out", repr(entity.id))
        seen.add(entity.id)
        return entity

    return read_records(path, problems, parse)


def _entity(record: dict[str, Any], count: _Count) -> EntityRecord:
    number, subject = plain(record.get("subject_id")), plain(record.get("subject"))
    if not number:
        raise LineError("lines without a subject_id, left out", _shown(record, "subject_id"))
    if not subject or not subject.strip():
        raise LineError("lines without a subject, left out", _shown(record, "subject"))
    written = [subject, *_texts(record, "alias", count)]
    distinct = dict.fromkeys(map(normalize_name, written))
    names = [name for name in distinct if 0 < len(name) <= LONGEST_NAME]
    if any(len(name) > LONGEST_NAME for name in distinct):
        count(f"entities with a name of over {LONGEST_NAME} characters, which is left out", repr(number))
    if not names:
        count("entities without a name that is more than 《》 and white space, never linked", repr(subject)[:40])
    attributes = [(normalize(predicate), normalize(value)) for predicate, value in _attributes(record, count)]
    lines = [f"{predicate}:{value}" for predicate, value in attributes]
    short = dict.fromkeys(value for _, value in attributes if 0 < len(value) <= SHORT_OBJECT)
    description = "\n".join([*lines, ", ".join(names)])
    return EntityRecord(number, subject, _texts(record, "type", count), names, description, list(short))


def _texts(record: dict[str, Any], key: str, count: _Count) -> list[str]:
    """Returns a list of texts of a record; none where it is absent, one where a text stands in place of the list."""
    found = record.get(key)
    entries = found if isinstance(found, list) else [] if found is None else [found]
    texts = [text for entry in entries if (text := plain(entry)) is not None]
    if len(texts) < len(entries):
        count(f"lines with something in {key} that is no text, left out", repr(found)[:40])
    return texts


def _attributes(record: dict[str, Any], count: _Count) -> list[tuple[str, str]]:
    data = record.get("data", [])
    entries = data if isinstance(data, list) else [data]
    pairs = [
        (plain(entry.get("predicate")), plain(entry.get("object"))) if isinstance(entry, dict) else (None, None)
        for entry in entries
    ]
    found = [(predicate, value) for predicate, value in pairs if predicate is not None and value is not None]
    if len(found) < len(entries):
        count('lines with something in data that has no "predicate" and "object", left out', repr(data)[:40])
    return found


def _shown(record: dict[str, Any], key: str) -> str:
    return f'"{key}" is {record[key]!r}' if key in record else f'no "{key}"'
