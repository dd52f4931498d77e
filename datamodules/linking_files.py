"""Texts with linked mentions, in the format of CCKS 2019's entity-linking task, read and written.

A line is {"text_id": "1", "text": "南京南站", "mention_data": [{"kb_id": "311223", "mention": "南京南站", "offset":
"0"}]}. Offsets count characters (code points) and are written as strings; the id "NIL" says that the knowledge base
does not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.json_lines import LineError, existing_file, read_records
from datamodules.normalizing import normalize
from datamodules.problems import Problems

NIL = "NIL"
# Duplicates are looked for among so many texts, that memory be bounded however long a file is.
_MOST_IDS = 2**18


class Mention(NamedTuple):
    """Characters of a text that stand for an entity.

    Attributes:
        start: position of the first one.
        end: position after the last one.
        entity: the entity's id; None for NIL.
    """

    start: int
    end: int
    entity: str | None


class LinkingText(NamedTuple):
    """A text and what it mentions.

    Attributes:
        id: as the file has it; "#" and the line's number where it has none.
        text: as written.
        mentions: in the order of the file.
    """

    id: str
    text: str
    mentions: tuple[Mention, ...] = ()


def read_texts(
    path: str | Path, problems: Problems, *, limit: int | None = None, is_known: Callable[[str], bool] | None = None
) -> Iterator[LinkingText]:
    """Yields the texts of a file in order, one at a time.

    What is wrong is counted: lines that are no texts and mentions that do not stand at their offsets are left out.
    A mention of an entity that is not known stays, as gold that cannot be found. So does what is beyond the limit.

    Args:
        path: of a file, .gz or not; "mention_data" may be absent, as in texts to predict on.
        problems: counts them.
        limit: texts of more characters are counted.
        is_known: whether an id is in the knowledge base.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no line is a text, or the file is damaged or not UTF-8; with file and line.
    """
    file, seen = existing_file(path, "text file"), set[int]()

    def parse(line: int, record: dict[str, Any]) -> LinkingText:
        def count(kind: str, detail: str = "") -> None:
            problems.add(kind, file, line, detail)

        found = LinkingText(_id(record, line, count), *_content(record, count))
        _check(found, count, limit, is_known, seen)
        return found

    return read_records(file, problems, parse)


def to_record(text: LinkingText) -> dict[str, Any]:
    """Returns a text as an object of the competition's format, the mentions as they are written in the text."""
    mentions = [
        {"kb_id": NIL if entity is None else entity, "mention": text.text[start:end], "offset": str(start)}
        for start, end, entity in text.mentions
    ]
    return {"text_id": text.id, "text": text.text, "mention_data": mentions}


_Count = Callable[..., None]


def _id(record: dict[str, Any], line: int, count: _Count) -> str:
    found = plain(record.get("text_id"))
    if found:
        return found
    count("texts without a text_id, which get their line's number")
    return f"#{line}"


def _content(record: dict[str, Any], count: _Count) -> tuple[str, tuple[Mention, ...]]:
    text, data = record.get("text"), record.get("mention_data")
    if not isinstance(text, str) or not text.strip():
        raise LineError("lines without a text, left out", f'"text" is {text!r}' if "text" in record else 'no "text"')
    if data is not None and not isinstance(data, list):
        raise LineError("lines whose mention_data is no list, left out", repr(data)[:40])
    normal = normalize(text)
    mentions = [_mention(entry, normal, count) for entry in data or []]
    kept = tuple(dict.fromkeys(mention for mention in mentions if mention))
    if len(kept) < len(mentions) - mentions.count(None):
        count("texts that have the same mention twice, of which one counts")
    return text, kept


def _mention(entry: Any, normal: str, count: _Count) -> Mention | None:
    """Returns a mention, or None if it cannot be used."""
    fields = entry if isinstance(entry, dict) else {}
    surface, entity, offset = fields.get("mention"), plain(fields.get("kb_id")), plain(fields.get("offset"))
    if not isinstance(surface, str) or not surface or not entity or not offset:
        count('mentions that lack "mention", "kb_id" or "offset", left out', repr(entry)[:60])
        return None
    start = int(offset) if offset.isdecimal() and len(offset) < 10 else -1
    if start < 0 or not normal.startswith(normalize(surface), start):
        at = normal.find(normalize(surface))
        where = f"at {at}" if at >= 0 else "nowhere"
        count(
            "mentions that do not stand at their offset, left out", f"{surface!r} at {offset[:20]}, but it is {where}"
        )
        return None
    return Mention(start, start + len(surface), None if entity == NIL else entity)


def _check(
    text: LinkingText, count: _Count, limit: int | None, is_known: Callable[[str], bool] | None, seen: set[int]
) -> None:
    """Counts what is remarkable about a text that can be used."""
    if hash(text.id) in seen:
        count("texts whose text_id came before, kept", repr(text.id))
    elif len(seen) < _MOST_IDS:
        seen.add(hash(text.id))
    if limit is not None and len(text.text) > limit:
        count(f"texts of over {limit} characters, searched up to there", f"{len(text.text)} characters")
    for mention in text.mentions:
        if mention.entity is None:
            count("mentions that are NIL, not used")
        elif is_known is not None and not is_known(mention.entity):
            count("mentions whose kb_id is not in the knowledge base, which cannot be linked", repr(mention.entity))


def plain(value: Any) -> str | None:
    """Returns a text, or a whole number as a text; None for all else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None
