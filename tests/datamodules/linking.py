"""A small knowledge base and texts, and files of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.linking_files import LinkingText, Mention

# Rows 0 to 4: three called apple, a pear, and one whose name is a word.
ENTITIES = [
    {"subject_id": "10", "subject": "苹果", "alias": ["Apple"], "data": [["公司", "手机"], ["总部", "加州"]]},
    {"subject_id": "11", "subject": "苹果", "alias": [], "data": [["类别", "水果"], ["味道", "又甜又脆"]]},
    {"subject_id": "12", "subject": "《苹果》", "alias": [], "data": [["类别", "电影"]]},
    {"subject_id": "13", "subject": "梨", "alias": ["香梨"], "data": [["类别", "水果"]]},
    {"subject_id": "14", "subject": "今天", "alias": [], "data": []},
]

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "中", "文", "play", "##ing", "e", "!"]


def write_tokenizer(folder: Path) -> str:
    """A folder with BERT's tokenizer of `PIECES`, for 8 of them at most."""
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 8}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def write_knowledge(path: Path, entities: Sequence[dict[str, Any]] = ENTITIES) -> str:
    """A file in the competition's format; "data" are pairs of predicate and object."""
    lines = []
    for entity in entities:
        data = [{"predicate": predicate, "object": value} for predicate, value in entity["data"]]
        lines.append(json.dumps({"type": ["Thing"], **entity, "data": data}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def text_of(number: int, text: str, *mentions: tuple[str, str | None]) -> LinkingText:
    """A text with mentions, each the first such string in it and its entity."""
    found = [Mention(text.index(what), text.index(what) + len(what), entity) for what, entity in mentions]
    return LinkingText(str(number), text, tuple(found))


def write_texts(path: Path, texts: Sequence[LinkingText]) -> str:
    """A file of texts in the competition's format."""
    lines = []
    for text in texts:
        data = [
            {
                "kb_id": mention.entity or "NIL",
                "mention": text.text[mention.start : mention.end],
                "offset": str(mention.start),
            }
            for mention in text.mentions
        ]
        lines.append(json.dumps({"text_id": text.id, "text": text.text, "mention_data": data}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n")
    return str(path)
