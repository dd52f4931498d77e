"""Batches of consecutive tokens: frequent words thinned out anew in each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules import token_cache
from datamodules.loading import ResumableLoader, ShardedSampler, random_generator
from datamodules.token_cache import Corpus
from datamodules.vocabulary import Vocabulary, keep_probabilities

# Pieces are mixed over about 17 million words: 20 epochs of Skip-Gram on 5 million words correlated with people on
# WordSim-353 by 0.58 where pieces of the whole text were mixed, by 0.55 where those of 65,000 words were.
MIXED_CHUNKS = 256
# Of a longer sentence: a cut takes the contexts of the words at its two sides, 3 % of all pairs.
PIECE_WINDOWS = 16


class CorpusPart:
    """The training or the validation sentences of a corpus.

    Which sentences are held out hangs on `val_fraction` and their numbers alone: every seed is validated on the same.

    Args:
        corpus: the text.
        val_fraction: each sentence is held out with this probability.
        held_out: whether this is the part that is held out.
    """

    def __init__(self, corpus: Corpus, val_fraction: float, *, held_out: bool) -> None:
        self.corpus = corpus
        self._val_fraction = val_fraction
        self._held_out = held_out

    def sentences(self, chunk: int) -> NDArray[np.int64]:
        """Returns the numbers of this part's sentences in a chunk."""
        sentences = self.corpus.sentences(chunk)
        if self._val_fraction:
            draws = torch.rand(len(sentences), generator=random_generator("validation", chunk))
            return sentences[(draws < self._val_fraction).numpy() == self._held_out]
        return sentences[:0] if self._held_out else sentences

    def read(self, chunk: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Returns the words' numbers and the sentence of each token of this part in a chunk."""
        sentences = self.sentences(chunk)
        starts, lengths = self.corpus.spans(sentences)
        return self.corpus.read(starts, lengths), np.repeat(sentences, lengths)

    def counts(self) -> NDArray[np.int64]:
        """Returns how often each word of the text occurs in this part, (W,)."""
        if not self._val_fraction:
            return self.corpus.counts * (not self._held_out)
        # The smaller part is counted.
        held_out = CorpusPart(self.corpus, self._val_fraction, held_out=True)
        counts = np.zeros_like(self.corpus.counts)
        for chunk in range(self.corpus.num_chunks):
            np.add.at(counts, held_out.read(chunk)[0], 1)
        # Words that were forgotten while the text was read have tokens, but count 0.
        return counts if self._held_out else np.maximum(self.corpus.counts - counts, 0)


class TokenStream:
    """The tokens of an epoch in their order.

    Attributes:
        by_distance: what a context at a distance of 1, ..., W counts (W,) float32, W being the window.

    Args:
        part: sentences to read.
        vocabulary: the items. Other words are left out, and the words beside them become neighbors.
        subsample: threshold of `keep_probabilities`; 0 keeps all.
        window: the largest distance of a context.
        shuffle: whether the text comes in pieces, whose order is drawn for each epoch.
        seed: of all draws.
    """

    def __init__(
        self,
        part: CorpusPart,
        vocabulary: Vocabulary,
        *,
        subsample: float,
        window: int,
        shuffle: bool,
        seed: int,
    ) -> None:
        self._part = part
        self._ids = vocabulary.ids
        # Id -1 finds the last entry: other words are never kept.
        keep = torch.cat([keep_probabilities(vocabulary.counts, subsample), torch.zeros(1)])
        self._keep = keep.float().numpy()[vocabulary.ids]
        self._size = float((keep.numpy()[vocabulary.ids] * part.counts()).sum())
        self.by_distance = (torch.arange(window, 0, -1) / window).float()
        self._shuffle = shuffle
        self._seed = seed

    @property
    def size(self) -> int:
        """Tokens that are kept of an epoch on average."""
        return round(self._size)

    def chunks(self, epoch: int) -> Iterator[Tensor]:
        """Yields an epoch's tokens and their sentences: (2, K) int64, K of about 65,000.

        After the last chunk the text begins again, with draws of its own.
        """
        last = 0
        for lap in count():
            read = self._pieces(epoch, lap) if self._shuffle else self._in_order()
            for number, (words, sentences) in enumerate(read):
                generator = random_generator(self._seed, epoch, lap, number)
                kept = torch.rand(len(words), generator=generator).numpy() < self._keep[words]
                tokens = torch.from_numpy(self._ids[words[kept]]).long()
                # A text of one sentence should not run on into itself.
                numbers = torch.from_numpy(sentences[kept]) + last
                yield torch.stack([tokens, numbers])
            last += self._part.corpus.num_tokens

    def _in_order(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Yields the text's words chunk by chunk, and their sentences."""
        for chunk in range(self._part.corpus.num_chunks):
            yield self._part.read(chunk)

    def _pieces(self, epoch: int, lap: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Yields its words in pieces that are mixed over many chunks, and where each piece starts in the text."""
        corpus = self._part.corpus
        groups = torch.arange(corpus.num_chunks).split(MIXED_CHUNKS)
        for group in torch.randperm(len(groups), generator=random_generator(self._seed, epoch, lap, "groups")).tolist():
            sentences = np.concatenate([self._part.sentences(chunk) for chunk in groups[group].tolist()])
            starts, lengths = _cut(*corpus.spans(sentences), PIECE_WINDOWS * len(self.by_distance))
            generator = random_generator(self._seed, epoch, lap, group, "pieces")
            order = torch.randperm(len(starts), generator=generator).numpy()
            ends = lengths[order].cumsum()
            size = token_cache.CHUNK_TOKENS
            chunks = np.searchsorted(ends, np.arange(size, lengths.sum(), size))
            for part in np.split(order, chunks):
                yield corpus.read(starts[part], lengths[part]), np.repeat(starts[part], lengths[part])


def _cut(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts spans into pieces of at most `longest` tokens: where these start, and how many tokens each has."""
    counts = -(-lengths // longest)
    first = np.repeat(counts.cumsum() - counts, counts)
    offsets = (np.arange(counts.sum()) - first) * longest
    return np.repeat(starts, counts) + offsets, np.minimum(np.repeat(lengths, counts) - offsets, longest)


class TokenLoader(ResumableLoader):
    """Batches {"tokens" (B,), "sentences" (B,), "by_distance" (W,)}: consecutive tokens of a stream.

    A global batch is W * B consecutive tokens, of which each of W processes takes a contiguous part; a window is cut
    where a part ends. An epoch has `stream.size` tokens: where the draw kept more, the last ones are left out; where
    it kept fewer, the text begins again, with draws of its own. To resume, the draws so far are repeated: some 40 ns
    a word of the text.

    Args:
        stream: the tokens.
        sampler: in the order of the stream, of its size.
        fresh: whether each epoch has an order and draws of its own; otherwise all are as the first.
    """

    def __init__(self, stream: TokenStream, sampler: ShardedSampler, *, fresh: bool) -> None:
        super().__init__(sampler)
        assert sampler.size == stream.size
        assert not sampler.shuffle
        self._stream = stream
        self._fresh = fresh

    def _load(self, start: int) -> Iterator[Any]:
        chunks = self._stream.chunks(self.sampler.epoch if self._fresh else 0)
        waiting, first = torch.zeros(2, 0, dtype=torch.long), 0
        for batch in range(start, self.sampler.num_batches):
            begin, end = self.sampler.bounds(batch)
            while first + waiting.shape[1] < end:
                used = min(begin - first, waiting.shape[1])
                waiting, first = torch.cat([waiting[:, used:], next(chunks)], 1), first + used
            tokens, sentences = waiting[:, begin - first : end - first]
            yield {"tokens": tokens, "sentences": sentences, "by_distance": self._stream.by_distance.clone()}
