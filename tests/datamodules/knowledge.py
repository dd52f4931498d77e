"""Knowledge bases and texts that tests make."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datamodules.knowledge_base import KnowledgeBase


def entity(number: int, subject: str, *alias: str, **attributes: str) -> dict[str, Any]:
    """An entity as its file has it."""
    data = [{"predicate": predicate, "object": value} for predicate, value in attributes.items()]
    return {"alias": list(alias), "subject_id": str(number), "subject": subject, "type": ["Thing"], "data": data}


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    """A file of JSON lines; texts are written as they are."""
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x, ensure_ascii=False)}\n" for x in lines))
    return path


def opened(folder: Path, entities: Iterable[Any], **options: Any) -> KnowledgeBase:
    """The knowledge base of these lines."""
    path = write_lines(folder / "kb.json", entities)
    return KnowledgeBase.open(path, str(folder / "cache"), progress=False, **options)


def named(folder: Path, names: Iterable[str]) -> KnowledgeBase:
    """A knowledge base with an entity for each name."""
    return opened(folder, [entity(number, name) for number, name in enumerate(names)])
