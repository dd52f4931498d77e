"""Texts and descriptions of entities as arrays: numbers of characters and words, and what a text has in common with
a description. All places are characters of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 1
# Names of what has no character of its own; no character is called so.
_SPECIAL = ["<padding>", "<unknown>"]
_CODES = 0x110000


def code_points(text: str) -> NDArray[np.uint32]:
    """Returns the code point of each character, (L,)."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def padded(parts: Sequence[NDArray[np.int64]], width: int = 0) -> NDArray[np.int64]:
    """Returns numbers of different lengths as rows (N, L), 0 behind their ends; L is the longest one's, or `width`."""
    mask = mask_of([len(part) for part in parts], width)
    table = np.zeros(mask.shape, np.int64)
    table[mask] = np.concatenate([np.zeros(0, np.int64), *parts])
    return table


def mask_of(lengths: Sequence[int], width: int = 0) -> NDArray[np.bool_]:
    """Returns which of L places hold something in rows of these lengths, (N, L); L is at least 1."""
    width = max([width, 1, *lengths])
    return np.arange(width) < np.array(lengths, np.int64)[:, None]


class CharacterCounts:
    """How often each character occurs."""

    def __init__(self) -> None:
        self._counts = np.zeros(_CODES, np.int64)

    @classmethod
    def load(cls, path: Path) -> CharacterCounts:
        """Returns those that `save` wrote."""
        counts = cls()
        codes, numbers = np.load(path)
        counts._counts[codes] = numbers
        return counts

    def save(self, path: Path) -> None:
        """Writes the code points that occur and how often they do, (2, K)."""
        codes = np.flatnonzero(self._counts)
        np.save(path, np.stack([codes, self._counts[codes]]))

    def add(self, texts: Iterable[str]) -> None:
        """Counts the characters of texts in normalized form."""
        self._counts += np.bincount(code_points("".join(texts)), minlength=_CODES)

    def characters(self, min_count: int) -> list[str]:
        """Returns the vocabulary: padding, unknown, and those that occur at least so often, the most frequent first."""
        codes = np.argsort(-self._counts, kind="stable")[: int((self._counts >= min_count).sum())]
        return _SPECIAL + [chr(code) for code in codes.tolist()]


class CharacterNumbers:
    """The number of each character in a vocabulary.

    Args:
        characters: padding, unknown, and the characters from number 2 on.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        self._numbers = np.full(_CODES, UNKNOWN, np.int32)
        codes = [ord(character) for character in characters[len(_SPECIAL) :]]
        self._numbers[codes] = np.arange(len(_SPECIAL), len(characters))

    def __call__(self, codes: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Returns the numbers (L,) of code points (L,)."""
        return self._numbers[codes].astype(np.int64)


def spread(values: Sequence[Any], pieces: Sequence[str], dtype: Any) -> NDArray[Any]:
    """Returns a piece's value for each of its characters, (L,)."""
    return np.repeat(np.array(values, dtype), [len(piece) for piece in pieces])


class Overlap:
    """What texts have in common with descriptions, character by character.

    Source: article 6, step 4: three features of a text's character, given an entity.
    """

    def __init__(self) -> None:
        # True at a description's characters while they are looked up; a set that costs no hashing.
        self._seen = np.zeros(_CODES, np.bool_)

    def __call__(
        self, text: str, words: Sequence[str], description: str, described: frozenset[str], objects: Iterable[str]
    ) -> NDArray[np.float32]:
        """Returns 0 or 1 for each character of a text of L: (L, 3) float32.

        1. Does it occur in the description? 2. Does the word that it lies in? 3. Is it inside of a string that is one
        of the entity's objects?

        Args:
            text: in normalized form.
            words: its pieces, which joined are the text.
            description: of the entity.
            described: the description's words.
            objects: the short ones of the entity.
        """
        features = np.zeros((len(text), 3), np.float32)
        codes = code_points(description)
        self._seen[codes] = True
        features[:, 0] = self._seen[code_points(text)]
        self._seen[codes] = False
        features[:, 1] = spread([word in described for word in words], words, np.float32)
        for thing in objects:
            start = text.find(thing)
            while start >= 0:
                features[start : start + len(thing), 2] = 1
                start = text.find(thing, start + 1)
        return features
