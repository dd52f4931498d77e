"""Which names of a knowledge base stand where in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import ahocorasick
import numpy as np
from numpy.typing import NDArray

from datamodules.normalizing import normalize, normalize_name

# Letters of the Latin alphabet, also accented and full-width ones, and digits.
_RUN = re.compile("[0-9A-Za-zÀ-ÖØ-öø-ɏ０-９Ａ-Ｚａ-ｚ]{2,}")


# A name in a text: positions of its first character and after its last one, and the name's number.
Match = tuple[int, int, int]


class NameIndex:
    """The distinct names of a knowledge base, numbered from 0 on, in a trie with Aho-Corasick's links.

    Args:
        folder: `NameWriter` has written it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return NameIndex, (self.folder,)

    @cached_property
    def automaton(self) -> Any:
        """pyahocorasick's; gives the number of a name."""
        return ahocorasick.load(str(self.folder / "names.trie"), int)

    @cached_property
    def lengths(self) -> list[int]:
        """How many characters each name has, (N)."""
        return np.load(self.folder / "name_lengths.npy").tolist()

    def number(self, name: str) -> int | None:
        """Returns the number of a name, which is normalized first; None for no name."""
        return self.automaton.get(normalize_name(name), None)


class NameWriter:
    """Gives names their numbers and writes them for `NameIndex`."""

    def __init__(self) -> None:
        self._automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        self.lengths: list[int] = []

    def number(self, name: str) -> int:
        """Returns the number of a normalized name, the next one for a new name."""
        number = self._automaton.get(name, -1)
        if number < 0:
            number = len(self.lengths)
            self._automaton.add_word(name, number)
            self.lengths.append(len(name))
        return number

    def write(self, folder: Path) -> None:
        """Writes the names, of which there has to be one."""
        self._automaton.make_automaton()
        self._automaton.save(str(folder / "names.trie"))
        np.save(folder / "name_lengths.npy", np.array(self.lengths, np.int32))


class NameMatcher:
    """Finds names in texts, as (start, end, name): positions of the text as given, in characters, and a number.

    Args:
        index: the names.
        whole_words: whether a name that begins or ends inside a run of Latin letters and digits is no match there
            ("art" in "party"): needed for languages that write spaces between words.
    """

    def __init__(self, index: NameIndex, *, whole_words: bool = False) -> None:
        self.index = index
        self.whole_words = whole_words

    def all_matches(self, text: str) -> list[Match]:
        """Returns all names in a text, overlapping ones too, by where they end."""
        lengths = self.index.lengths
        ends = self._ends(normalize(text), allowed=None)
        return [(last + 1 - lengths[name], last + 1, name) for last, name in ends]

    def cover(self, text: str, allowed: NDArray[np.bool_] | None = None) -> list[Match]:
        """Returns the names of the cheapest way to cut a text into names and single characters: with fewest pieces.

        The article's maximum matching. Of ways with as few pieces the one counts whose last piece is longest, then
        the one before it and so on; a name of one character comes before the character by itself.

        Args:
            text: of L characters.
            allowed: (N,), the names that may be used; None for all.

        Returns:
            Matches in the order of the text that do not overlap.
        """
        lengths = self.index.lengths
        # For each position so far: pieces up to there, where the last one starts, and its name (-1: a character).
        pieces, starts, names = [0], [0], [-1]
        end = 0
        for last, name in self._ends(normalize(text), allowed):
            while end <= last:
                pieces.append(pieces[end] + 1)
                end += 1
                starts.append(end)
                names.append(-1)
            start = end - lengths[name]
            count = pieces[start] + 1
            if count < pieces[end] or (count == pieces[end] and start < starts[end]):
                pieces[end], starts[end], names[end] = count, start, name
        found = []
        while end:
            if names[end] < 0:
                end -= 1
            else:
                found.append((starts[end], end, names[end]))
                end = starts[end]
        return found[::-1]

    def _ends(self, normal: str, allowed: NDArray[np.bool_] | None) -> Iterable[tuple[int, int]]:
        """Returns the position of the last character and the number of each name in a text, by position."""
        found: Iterable[tuple[int, int]] = self.index.automaton.iter(normal)
        if allowed is not None:
            # Indexing an array costs three times as much.
            is_allowed = memoryview(allowed.data)
            found = [(last, name) for last, name in found if is_allowed[name]]
        if self.whole_words:
            # Positions between two characters of a run.
            inside = {at for run in _RUN.finditer(normal) for at in range(run.start() + 1, run.end())}
            lengths = self.index.lengths
            found = [
                (last, name)
                for last, name in found
                if last + 1 not in inside and last + 1 - lengths[name] not in inside
            ]
        return found
