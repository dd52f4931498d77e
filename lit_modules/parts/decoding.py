"""What decoding needs of a network, and what its strategies share: many sequences at once, a token a step.

Source: article 8, decoding. R is the number of sequences (rows), V the size of the vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """Sequences under way, such as the cached states of a network."""

    @property
    def logits(self) -> Tensor:
        """Of each sequence's next token (R, V)."""

    def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
        """Append a token (R,) to each sequence, or to those that are ``active`` (R,) bool alone."""

    def select(self, rows: Tensor) -> None:
        """Go on with these sequences (R',): reordered, repeated or left out."""


class Constraint(Protocol):
    """Which tokens may come next, for each sequence by what it has so far."""

    def allowed(self, vocabulary: int) -> Tensor:
        """(R, V) bool."""

    def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
        """As the decoder."""

    def select(self, rows: Tensor) -> None:
        """As the decoder."""


class Decoded(NamedTuple):
    """What came out, a sequence a row.

    Attributes:
        tokens: without the token that ends a sequence.
        log_probs: (R,) float32, of the sequence with its end under the network itself, whatever was filtered.
    """

    tokens: list[list[int]]
    log_probs: Tensor


def filtered(logits: Tensor, banned: Sequence[int], constraint: Constraint | None) -> Tensor:
    """A copy of the logits (R, V) in float32 in which tokens that may not come next are at minus infinity."""
    numbers = torch.tensor(list(banned), dtype=torch.long, device=logits.device)
    logits = logits.float().index_fill(1, numbers, -torch.inf)
    return logits if constraint is None else logits.masked_fill(~constraint.allowed(logits.shape[1]), -torch.inf)


def without_padding(tokens: Tensor, lengths: Tensor) -> list[list[int]]:
    """The first ``lengths`` (R,) of ``tokens`` (R, T)."""
    return [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
