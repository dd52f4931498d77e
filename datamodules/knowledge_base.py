"""A knowledge base: entities with ids, names and descriptions, memory-mapped."""

from __future__ import annotations

import importlib.metadata
import json
import mmap
import platform
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from numpy.typing import NDArray

from datamodules.cache_folders import cache_folder, cached_folder
from datamodules.json_lines import existing_file
from datamodules.knowledge_files import EntityRecord, read_entities
from datamodules.knowledge_writer import BATCH, id_hash, write_knowledge
from datamodules.linking_features import CharacterCounts
from datamodules.name_matcher import NameIndex, NameMatcher
from datamodules.problems import Problems
from datamodules.segmenters import find_segmenter, segmenter_key
from datamodules.text_files import file_key, open_bytes

# Part of the cache's key: other formats and rules get other numbers.
_VERSION = 3


class Entity(NamedTuple):
    """An entity of a knowledge base.

    Attributes:
        id: as in the file.
        subject: its main name as written.
        types: as in the file.
        description: normalized; a line "predicate:object" an attribute, and a line with all names (article 6, step 1).
        words: the segmenter's and what is between them; joined they are the description.
        objects: the distinct normalized objects of at most ten characters.
    """

    id: str
    subject: str
    types: list[str]
    description: str
    words: list[str]
    objects: list[str]


class KnowledgeBase:
    """E entities by row, 0 to E - 1, and their N distinct normalized names by number, 0 to N - 1.

    Args:
        folder: `KnowledgeBase.open` knows which.

    Attributes:
        fingerprint: tells knowledge bases apart by ids, names and descriptions; the same on all machines.
        num_names: N.
        index: the names' numbers.
        problems: what was wrong in the file.
        description_lengths: characters of each description, (E,).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "about.json").read_text())
        self.fingerprint: str = about["fingerprint"]
        self.num_names: int = about["names"]
        self.problems = Problems()
        self.problems.update(about["problems"])
        self.index = NameIndex(folder)
        self.description_lengths = np.load(folder / "description_lengths.npy", "r")
        self._size: int = about["entities"]
        self._starts = np.load(folder / "candidate_starts.npy", "r")
        self._candidates = np.load(folder / "candidates.npy", "r")
        self._hashes = np.load(folder / "id_hashes.npy", "r")
        self._rows = np.load(folder / "id_rows.npy", "r")

    @classmethod
    def open(
        cls, path: str | Path, cache_dir: str | None = None, *, segmenter: str = "chinese", progress: bool = True
    ) -> KnowledgeBase:
        """Returns the knowledge base of a file, which is read at the first call only and memory-mapped later.

        Args:
            path: a file in the format of CCKS 2019, an entity a line, .gz or not.
            cache_dir: folder for what is written; None for litspaces/knowledge in $XDG_CACHE_HOME or ~/.cache.
            segmenter: what cuts descriptions into words; see `find_segmenter`.
            progress: whether a bar is shown while the file is read.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no line is an entity, no entity has a name, or the file is damaged or not UTF-8.
        """
        file = existing_file(path, "knowledge base")

        def write(folder: Path) -> None:
            rank_zero_info(f"Reading {file}; what is read is kept in {folder.with_suffix('')}")
            problems = Problems()
            entities = read_entities(file, problems)
            shown = _shown(entities, file) if progress else entities
            about = write_knowledge(folder, shown, find_segmenter(segmenter))
            (folder / "about.json").write_text(json.dumps({**about, "problems": problems.state()}))

        # The trie's file is a copy of memory.
        made_by = [importlib.metadata.version("pyahocorasick"), platform.machine()]
        key = ["knowledge", _VERSION, file_key(file), segmenter_key(segmenter), *made_by]
        return cls(cached_folder(cache_folder(cache_dir, "knowledge"), key, write))

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[Any, ...]:
        return KnowledgeBase, (self.folder,)

    def entity(self, row: int) -> Entity:
        """Returns the entity of a row."""
        number, subject, types, description, lengths, objects = self._entities.values(row)
        words = [description[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]
        return Entity(number, subject, types, description, words, objects)

    def id(self, row: int) -> str:
        """Returns the id of a row's entity."""
        return self._entities.value(row, 0)

    def row(self, entity: str) -> int | None:
        """Returns the row of an id, None for an unknown one."""
        wanted = np.uint64(id_hash(entity))
        at = int(self._hashes.searchsorted(wanted))
        while at < len(self) and self._hashes[at] == wanted:
            if self.id(row := int(self._rows[at])) == entity:
                return row
            at += 1
        return None

    def candidates(self, name: int) -> NDArray[np.int32]:
        """Returns the rows that have a name, in the order of the file."""
        return self._candidates[self._starts[name] : self._starts[name + 1]]

    def name(self, number: int) -> str:
        """Returns a name, normalized."""
        return self._names.value(number, 0)

    def name_number(self, name: str) -> int | None:
        """Returns the number of a name, which is normalized first; None for no name of an entity."""
        return self.index.number(name)

    def character_counts(self) -> CharacterCounts:
        """Returns how often each character occurs in the descriptions."""
        return CharacterCounts.load(self.folder / "characters.npy")

    def words(self) -> list[str]:
        """Returns the distinct words of the descriptions."""
        with pa.memory_map(str(self.folder / "words.arrow")) as file:
            return pa.ipc.open_file(file).read_all().column(0).to_numpy().tolist()

    def matcher(self, *, whole_words: bool = False) -> NameMatcher:
        """Returns what finds the names in texts; see `NameMatcher`."""
        return NameMatcher(self.index, whole_words=whole_words)

    @cached_property
    def _entities(self) -> _Rows:
        return _Rows(self.folder / "entities.arrow")

    @cached_property
    def _names(self) -> _Rows:
        return _Rows(self.folder / "names.arrow")


class _Rows:
    """The rows of an Arrow file, memory-mapped.

    Pages of a mapped file that were read count as memory of the process, until they are handed back: after so many
    values that this stays at about 200 MiB. They are read again from the system's cache.
    """

    _MOST_VALUES = 2048

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file = pa.ipc.open_file(pa.py_buffer(self._memory))
        self._batches: dict[int, Any] = {}
        self._values = 0

    def value(self, row: int, column: int) -> Any:
        """Returns a column of a row: a text or a list."""
        self._values += 1
        if self._values % self._MOST_VALUES == 0:
            self._memory.madvise(mmap.MADV_DONTNEED)
        number, row = divmod(row, BATCH)
        if number not in self._batches:
            self._batches[number] = self._file.get_batch(number).columns
        return self._batches[number][column][row].as_py()

    def values(self, row: int) -> list[Any]:
        """Returns all columns of a row."""
        return [self.value(row, column) for column in range(len(self._file.schema))]


def _shown(entities: Iterable[EntityRecord], path: Path) -> Iterable[EntityRecord]:
    """Yields entities under a progress bar."""
    from rich.progress import track

    return track(entities, description="Reading the knowledge base", total=_count_lines(path))


def _count_lines(path: Path) -> int:
    with open_bytes(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))
