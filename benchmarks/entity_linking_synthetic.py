"""Made-up entity-linking tasks of any size in the format of CCKS 2019, written as they are made."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.text_files import read_lines

# Characters of an entity's description, at least, and of a text.
DESCRIPTION = 500
TEXT = 22
_PREDICATES = ("摘要", "义项描述", "标签", "职业", "代表作品")
_OBJECTS = (4, 8, 20, 60, 120)
# Of the characters that names are made of, the first of 4,000 by Zipf's law; lengths and how often they occur.
_CHARACTERS = [chr(0x4E00 + number) for number in range(4000)]
_WEIGHTS = list(itertools.accumulate(1 / (rank + 10) for rank in range(4000)))
_LENGTHS = {1: 0.005, 2: 0.2, 3: 0.3, 4: 0.25, 5: 0.12, 6: 0.08, 8: 0.05}
# So many names are another entity's too, and so many pieces of a text are names.
_SHARED, _NAMED = 0.25, 0.15


@dataclass(frozen=True)
class SyntheticFiles:
    """Paths of a knowledge base, texts with mentions to train on, and texts without."""

    knowledge: Path
    train: Path
    texts: Path


def source_text(path: str, lines: int = 60_000) -> str:
    """What descriptions and texts are cut from: the first lines of a text file, gzipped or not."""
    return "".join(line.strip() for line in itertools.islice(read_lines(Path(path)), lines))


def write_task(folder: Path, entities: int, text: str, *, train: int = 2000, texts: int = 50_000) -> SyntheticFiles:
    """Write a task.

    Args:
        folder: for the files.
        entities: of the knowledge base; each has 500 characters of description, and a fourth of the names are shared.
        text: what descriptions and texts are cut from.
        train: training texts.
        texts: further texts.
    """
    files = SyntheticFiles(*(folder / f"{name}.jsonl" for name in ("knowledge", "train", "texts")))
    generator, owners = random.Random(0), dict[str, str]()
    with files.knowledge.open("w", encoding="utf-8") as file:
        for record in _entities(entities, text, generator, owners):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    names = list(owners)
    for path, number in ((files.train, train), (files.texts, texts)):
        with path.open("w", encoding="utf-8") as file:
            for line in range(number):
                written, mentions = _text(text, names, generator)
                found = [{"kb_id": owners[name], "mention": name, "offset": str(at)} for at, name in mentions]
                record = {"text_id": str(line), "text": written, "mention_data": found}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return files


def _entities(number: int, text: str, generator: random.Random, owners: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Records; the first entity of each name is put down in owners."""
    names: list[str] = []
    for row in range(number):
        own = [_name(names, generator) for _ in range(1 + generator.choice((0, 0, 1, 2)))]
        for name in own:
            owners.setdefault(name, str(row))
        data, size = [], 0
        while size < DESCRIPTION:
            predicate, given = generator.choice(_PREDICATES), _cut(text, generator.choice(_OBJECTS), generator)
            data.append({"predicate": predicate, "object": given})
            size += len(predicate) + len(given) + 2
        yield {"alias": own, "subject_id": str(row), "subject": own[0], "type": ["Thing"], "data": data}


def _name(names: list[str], generator: random.Random) -> str:
    if names and generator.random() < _SHARED:
        return generator.choice(names)
    (length,) = generator.choices(list(_LENGTHS), list(_LENGTHS.values()))
    names.append("".join(generator.choices(_CHARACTERS, cum_weights=_WEIGHTS, k=length)))
    return names[-1]


def _cut(text: str, length: int, generator: random.Random) -> str:
    start = generator.randrange(len(text) - length)
    return text[start : start + length]


def _text(text: str, names: Sequence[str], generator: random.Random) -> tuple[str, list[tuple[int, str]]]:
    """A text, and the names that were put into it, with their places."""
    written, mentions = "", []
    while len(written) < TEXT:
        if generator.random() < _NAMED:
            mentions.append((len(written), generator.choice(names)))
            written += mentions[-1][1]
        else:
            written += _cut(text, 6, generator)
    return written[:TEXT], [(at, name) for at, name in mentions if at + len(name) <= TEXT]
