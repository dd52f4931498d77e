"""Words, how often they occur, and which of them become items."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class WordNumbers(dict[str, int]):
    """The number of each token's word, in the order in which words appear first; -1 for a token that is no word.

    What makes a word of a token is thought about once for each distinct token: a known one costs a look-up. A word
    is a token in lower case without the punctuation, symbols and spaces at its ends, if a letter or a digit is left.

    Args:
        lowercase: otherwise words keep their capitals.
        keep_punctuation: any token that is not blank is a word as it is, but for the capitals.
    """

    def __init__(self, *, lowercase: bool = True, keep_punctuation: bool = False) -> None:
        super().__init__()
        self.size = 0
        self._lowercase = lowercase
        self._keep_punctuation = keep_punctuation

    def __missing__(self, token: str) -> int:
        word = self._word(token)
        number = self.get(word, self.size) if word else -1
        self.size += number == self.size
        # First the word: `words` relies on it.
        self[word] = number
        self[token] = number
        return number

    def words(self) -> list[str]:
        """Returns the words in the order of their numbers; "" where one was forgotten."""
        words = [""] * self.size
        for token, number in reversed(self.items()):
            if number >= 0:
                words[number] = token
        return words

    def forget(self, counts: NDArray[np.int64], least: int) -> None:
        """Drops words that occurred fewer than `least` times; should they come again, they are new words."""
        for token in [token for token, number in self.items() if number < 0 or counts[number] < least]:
            del self[token]

    def _word(self, token: str) -> str:
        if self._lowercase:
            token = token.lower()
        if self._keep_punctuation:
            return token.strip()
        start, end = 0, len(token)
        while start < end and _is_punctuation(token[start]):
            start += 1
        while start < end and _is_punctuation(token[end - 1]):
            end -= 1
        return token[start:end] if any(map(str.isalnum, token[start:end])) else ""


def _is_punctuation(character: str) -> bool:
    """Punctuation, symbols, separators and control characters; vowel signs at a word's end (Hindi) are none."""
    return unicodedata.category(character)[0] in "PSZC"


@dataclass(frozen=True)
class Vocabulary:
    """The items that vectors are learned for.

    Args:
        items: words in the order of their ids, the most frequent first.
        counts: how often each occurs, (N,) float64.
        ids: the id of each word of the text, or -1, (W,) int32.
    """

    items: list[str]
    counts: Tensor
    ids: NDArray[np.int32]


def choose_vocabulary(
    words: Sequence[str], counts: NDArray[np.int64], *, min_count: int, max_vocabulary: int | None, name: str
) -> Vocabulary:
    """Makes items of the frequent words; of equally frequent ones, the first to appear comes first.

    Args:
        words: all words of the text, W of them.
        counts: how often each occurs, (W,).
        min_count: rarer words are left out.
        max_vocabulary: at most so many items; None for no limit.
        name: what the message calls the text.

    Raises:
        ValueError: no word is frequent enough.
    """
    order = np.argsort(-counts, kind="stable")
    size = int((counts >= min_count).sum())
    if not size:
        first = order[0]
        raise ValueError(
            f"no word of {name} occurs min_count={min_count} times in the training sentences "
            f"(the most frequent, {words[first]!r}, {counts[first]}); lower min_count or give more text"
        )
    order = order[: size if max_vocabulary is None else min(size, max_vocabulary)]
    ids = np.full(len(words), -1, np.int32)
    ids[order] = np.arange(len(order))
    return Vocabulary([words[word] for word in order], torch.from_numpy(counts[order].astype(np.float64)), ids)


def keep_probabilities(counts: Tensor, subsample: float) -> Tensor:
    """Returns with which probability an occurrence of each item stays in the text.

    sqrt(t / f) + t / f, at most 1, where f is the item's part of all occurrences and t is `subsample`: the rule of
    word2vec's code (github.com/tmikolov/word2vec), which keeps a little more than 1 - sqrt(t / f) of the paper
    (Mikolov et al. 2013, arXiv 1310.4546, equation 5).

    Args:
        counts: how often each item occurs, (N,).
        subsample: threshold t on the frequency f; 0 keeps all.
    """
    if not subsample:
        return torch.ones_like(counts)
    ratio = subsample * counts.sum() / counts
    return (ratio.sqrt() + ratio).clamp(max=1)
