"""A network whose probabilities are known: a chain in which the next token depends on the last one, for each row."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


class MarkovDecoder:
    """Rows of chains; all begin after token 0."""

    def __init__(self, log_probs: Tensor, written: Sequence[Sequence[int]] | None = None) -> None:
        """
        Args:
            log_probs: of the next token (R, V, V), by the last one.
            written: what the rows have so far.
        """
        self.log_probs = log_probs
        self.written = [list(row) for row in (written or [[]] * len(log_probs))]

    @property
    def logits(self) -> Tensor:
        last = torch.tensor([row[-1] if row else 0 for row in self.written], dtype=torch.long)
        # A constant is no part of a probability: logits aren't log-probabilities.
        return self.log_probs[torch.arange(len(last)), last] + 3.0

    def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
        active = torch.ones_like(tokens, dtype=torch.bool) if active is None else active
        for row, token, goes_on in zip(self.written, tokens.tolist(), active.tolist(), strict=True):
            row.extend([token] * goes_on)

    def select(self, rows: Tensor) -> None:
        self.log_probs = self.log_probs[rows]
        self.written = [list(self.written[row]) for row in rows.tolist()]

    def extend(self, tokens: Tensor, mask: Tensor) -> None:
        for row, new, real in zip(self.written, tokens, mask, strict=True):
            row.extend(new[real].tolist())

    def copy(self) -> "MarkovDecoder":
        return MarkovDecoder(self.log_probs, self.written)


class MarkovReader:
    """After each passage, a chain of its own: what follows depends on all of its tokens."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def decoder(self, passage: Tensor, mask: Tensor) -> MarkovDecoder:
        return MarkovDecoder(torch.stack([self.chain(row[real]) for row, real in zip(passage, mask, strict=True)]))

    def chain(self, passage: Tensor) -> Tensor:
        """Log-probabilities (V, V) after the tokens of a passage (P,)."""
        seed = sum(token * 7**place for place, token in enumerate(passage.tolist()))
        return chains(1, self.vocabulary, seed, sharpness=0.7)[0]


def chains(rows: int, vocabulary: int, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    """Random log-probabilities (rows, vocabulary, vocabulary)."""
    drawn = torch.randn(rows, vocabulary, vocabulary, generator=torch.Generator().manual_seed(seed))
    return (sharpness * drawn).log_softmax(dim=2)


def all_sequences(
    log_probs: Tensor, end: int, max_length: int, begin: int = 0
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every sequence of 1 to max_length tokens of one chain (V, V), with the log-probability of it and its end."""
    table = log_probs.tolist()
    beginnings: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(max_length):
        beginnings = [
            ((*tokens, token), score + table[tokens[-1] if tokens else begin][token])
            for tokens, score in beginnings
            for token in range(len(table))
            if token != end
        ]
        yield from ((tokens, score + table[tokens[-1]][end]) for tokens, score in beginnings)
