"""A text as numbers of words, in memory-mapped files that are written once.

A folder holds `tokens.bin` (int32: the number of each token's word), `starts.bin` (int64: where each sentence starts,
and where the last one ends), `counts.npy` (int64: how often each word occurs) and `words.json`. The text is read and
segmented in one pass; neither it nor its tokens are ever in memory as a whole.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from numpy.typing import NDArray

from datamodules.cache_folders import cached_folder
from datamodules.vocabulary import WordNumbers

BLOCK_TOKENS = 2**20
CHUNK_TOKENS = 2**16
# About 1.5 GB of Python's strings and look-up table.
MOST_WORDS = 10_000_000
# Part of the cache's key: other formats and rules get other numbers.
_VERSION = 1


class Corpus:
    """The sentences of a text, S of them, N tokens in all, memory-mapped.

    Args:
        folder: written by `write_corpus`.
    """

    def __init__(self, folder: Path) -> None:
        self.tokens = np.memmap(folder / "tokens.bin", np.int32, "r")
        self.starts = np.memmap(folder / "starts.bin", np.int64, "r")
        self.counts: NDArray[np.int64] = np.load(folder / "counts.npy")
        self.words: list[str] = json.loads((folder / "words.json").read_text())
        first = np.searchsorted(self.starts, np.arange(0, len(self.tokens), CHUNK_TOKENS))
        self._chunks = np.unique(np.append(first, self.num_sentences))

    @property
    def num_sentences(self) -> int:
        return len(self.starts) - 1

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def num_chunks(self) -> int:
        """Chunks: whole sentences that follow one another, about `CHUNK_TOKENS` tokens."""
        return len(self._chunks) - 1

    def sentences(self, chunk: int) -> NDArray[np.int64]:
        """Returns the numbers of the sentences of a chunk."""
        return np.arange(self._chunks[chunk], self._chunks[chunk + 1])

    def spans(self, sentences: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns where these sentences start, and how many tokens each has."""
        starts = self.starts[sentences]
        return starts, self.starts[sentences + 1] - starts

    def read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int32]:
        """Returns the words' numbers of these spans of the text, one after another."""
        before = lengths.cumsum() - lengths
        return self.tokens[np.repeat(starts - before, lengths) + np.arange(lengths.sum())]


def open_cached(cache: Path, key: Any, write: Callable[[Path], None]) -> Corpus:
    """Opens the corpus of a key, which `write` writes into a folder if no process has done so yet.

    Args:
        cache: folder for corpora; made if need be.
        key: JSON-plain; differs where the corpora differ.
        write: called with an empty folder, by one process at a time.

    Raises:
        OSError: the folder cannot be written to.
    """
    return Corpus(cached_folder(cache, [_VERSION, key], write))


def write_corpus(
    folder: Path, sentences: Iterable[Iterable[str]], numbers: WordNumbers, *, most_words: int = MOST_WORDS
) -> int:
    """Writes the tokens that are words into a folder, and returns how many; sentences without one are left out.

    Should there be more than `most_words` distinct tokens, the rarest words so far are forgotten, as word2vec does
    it: the memory is bounded, and the counts of rare words come out too low. A warning tells below which count.

    Args:
        folder: an empty one.
        sentences: each as tokens; more than `CHUNK_TOKENS` tokens become several sentences.
        numbers: empty; knows what a word is.
        most_words: the most distinct tokens in memory.
    """
    counts, end, least = np.zeros(0, np.int64), 0, 1
    with (folder / "tokens.bin").open("wb") as tokens_file, (folder / "starts.bin").open("wb") as starts_file:
        starts_file.write(np.zeros(1, np.int64).tobytes())
        for tokens, ends in _blocks(sentences, numbers):
            tokens_file.write(tokens.tobytes())
            starts_file.write((end + ends).tobytes())
            end += len(tokens)
            counts = np.pad(counts, (0, numbers.size - len(counts))) + np.bincount(tokens, minlength=numbers.size)
            if len(numbers) > most_words:
                least += 1
                numbers.forget(counts, least)
                counts[counts < least] = 0
    if least > 1:
        rank_zero_warn(
            f"the text has more than {most_words:,} distinct tokens: words that had occurred fewer than {least} times "
            f"were forgotten on the way, so that counts of rare words are too low; min_count should be well above it"
        )
    np.save(folder / "counts.npy", counts)
    (folder / "words.json").write_text(json.dumps(numbers.words()))
    return end


def _blocks(
    sentences: Iterable[Iterable[str]], numbers: WordNumbers
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Yields the words' numbers of about `BLOCK_TOKENS` tokens and where each sentence ends among them."""
    number_of = numbers.__getitem__
    tokens, ends = array("i"), array("q")
    for sentence in sentences:
        tokens.extend(map(number_of, sentence))
        while len(tokens) - (ends[-1] if ends else 0) > CHUNK_TOKENS:
            ends.append((ends[-1] if ends else 0) + CHUNK_TOKENS)
        ends.append(len(tokens))
        if len(tokens) >= BLOCK_TOKENS:
            yield _words_only(tokens, ends)
            tokens, ends = array("i"), array("q")
    yield _words_only(tokens, ends)


def _words_only(tokens: array[int], ends: array[int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Leaves out the tokens that are no words, and sentences that have no others."""
    numbers = np.frombuffer(tokens, np.int32)
    is_word = numbers >= 0
    words_before = np.concatenate(([0], is_word.cumsum()))
    # A sentence without words ends where the one before ends.
    word_ends = np.unique(words_before[np.frombuffer(ends, np.int64)])
    return numbers[is_word], word_ends[word_ends > 0]
