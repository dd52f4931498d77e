"""A knowledge base as memory-mapped files, written in one pass over its file.

A folder holds `entities.arrow` (batches of 1,024 entities), `names.arrow` and `names.trie` (the distinct names by
number), `candidates.npy` (the rows that have a name, name after name) with `candidate_starts.npy`, `id_hashes.npy`
(sorted) with `id_rows.npy`, `words.arrow`, `characters.npy` and `description_lengths.npy` (the descriptions' distinct
words, how often each character occurs in them, and how many each has), and `about.json`. Descriptions are never in
memory as a whole; names, ids and distinct words are.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datamodules.knowledge_files import EntityRecord
from datamodules.linking_features import CharacterCounts
from datamodules.name_matcher import NameWriter
from datamodules.normalizing import word_pieces
from datamodules.segmenters import Segmenter

BATCH = 1024
_LONGEST_WORD = 2**16 - 1
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("subject", pa.string()),
        ("types", pa.list_(pa.string())),
        # 1,024 lines of up to a mebibyte may be more than the two gibibytes of a `string` column.
        ("description", pa.large_string()),
        ("word_lengths", pa.large_list(pa.uint16())),
        ("objects", pa.list_(pa.string())),
    ]
)


def write_knowledge(folder: Path, entities: Iterable[EntityRecord], segmenter: Segmenter) -> dict[str, Any]:
    """Writes entities into a folder and returns what there is: their number, that of names, and a fingerprint.

    Args:
        folder: an empty one.
        entities: with distinct ids.
        segmenter: cuts the descriptions into words.

    Raises:
        ValueError: no entity has a name.
    """
    names, name_of, row_of, hashes = NameWriter(), array("i"), array("i"), array("Q")
    descriptions, digest = _Descriptions(segmenter), hashlib.sha256()
    with (
        pa.OSFile(str(folder / "entities.arrow"), "wb") as file,
        pa.ipc.new_file(file, _SCHEMA) as table,
        _TextTable(folder / "names.arrow") as name_table,
    ):
        for batch in _batches(entities):
            for entity in batch:
                digest.update(json.dumps([entity.id, entity.names, entity.description]).encode())
                for name in entity.names:
                    number = names.number(name)
                    if number == len(name_table):
                        name_table.append(name)
                    name_of.append(number)
                    row_of.append(len(hashes))
                hashes.append(id_hash(entity.id))
            table.write_batch(_columns(batch, descriptions))
    if not len(name_of):
        raise ValueError("no entity of the knowledge base has a name that is more than 《》 and white space")
    names.write(folder)
    descriptions.write(folder)
    _write_index(folder, np.frombuffer(name_of, np.int32), np.frombuffer(row_of, np.int32))
    _write_ids(folder, np.frombuffer(hashes, np.uint64))
    return {"entities": len(hashes), "names": len(names.lengths), "fingerprint": digest.hexdigest()[:32]}


def id_hash(entity: str) -> int:
    """Returns 64 bits that are the same in all processes."""
    return int.from_bytes(hashlib.blake2b(entity.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class _Descriptions:
    """Cuts descriptions into words, and keeps their lengths, how often each character occurs, and distinct words."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._lengths = array("i")
        self._characters = CharacterCounts()
        # A dict, unlike a set, has the same order in all processes.
        self._words: dict[str, None] = {}

    def word_lengths(self, descriptions: Sequence[str]) -> list[list[int]]:
        """Returns the lengths of each description's words."""
        self._lengths.extend(map(len, descriptions))
        self._characters.add(descriptions)
        lengths = []
        for description in descriptions:
            words = _words(description, self._segmenter)
            self._words.update(dict.fromkeys(words))
            lengths.append(list(map(len, words)))
        return lengths

    def write(self, folder: Path) -> None:
        """Writes what was kept."""
        np.save(folder / "description_lengths.npy", np.frombuffer(self._lengths, np.int32))
        self._characters.save(folder / "characters.npy")
        with _TextTable(folder / "words.arrow") as table:
            for word in self._words:
                table.append(word)


class _TextTable:
    """Texts by number, in an Arrow file of batches."""

    def __init__(self, path: Path) -> None:
        self._schema = pa.schema([("text", pa.string())])
        self._file = pa.OSFile(str(path), "wb")
        self._table = pa.ipc.new_file(self._file, self._schema)
        self._texts: list[str] = []
        self._written = 0

    def __enter__(self) -> _TextTable:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._table.close()
        self._file.close()

    def __len__(self) -> int:
        return self._written + len(self._texts)

    def append(self, text: str) -> None:
        self._texts.append(text)
        if len(self._texts) == BATCH:
            self._flush()

    def _flush(self) -> None:
        self._table.write_batch(pa.record_batch([pa.array(self._texts, pa.string())], schema=self._schema))
        self._written += len(self._texts)
        self._texts = []


def _batches(entities: Iterable[EntityRecord]) -> Iterator[list[EntityRecord]]:
    batch: list[EntityRecord] = []
    for entity in entities:
        batch.append(entity)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _columns(batch: list[EntityRecord], descriptions: _Descriptions) -> Any:
    columns = [
        [entity.id for entity in batch],
        [entity.subject for entity in batch],
        [entity.types for entity in batch],
        [entity.description for entity in batch],
        descriptions.word_lengths([entity.description for entity in batch]),
        [entity.objects for entity in batch],
    ]
    return pa.record_batch(
        [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


def _words(description: str, segmenter: Segmenter) -> list[str]:
    words = word_pieces(description, segmenter)
    if max(map(len, words), default=0) <= _LONGEST_WORD:
        return words
    return [word[cut : cut + _LONGEST_WORD] for word in words for cut in range(0, len(word), _LONGEST_WORD)]


def _write_index(folder: Path, name_of: Any, row_of: Any) -> None:
    order = np.argsort(name_of, kind="stable")
    np.save(folder / "candidates.npy", row_of[order])
    np.save(folder / "candidate_starts.npy", np.concatenate(([0], np.bincount(name_of).cumsum())))


def _write_ids(folder: Path, hashes: Any) -> None:
    order = np.argsort(hashes, kind="stable")
    np.save(folder / "id_hashes.npy", hashes[order])
    np.save(folder / "id_rows.npy", order.astype(np.int32))
