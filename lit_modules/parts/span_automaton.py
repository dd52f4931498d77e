"""Which tokens may come next so that a sequence stays a span of its passage: exact, for all rows at once.

Source: article 8, which leaves open how to force an answer to be part of the passage.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def ordinary_tokens(tokens: Tensor, special: Sequence[int]) -> Tensor:
    """Which of the tokens (...) aren't special, bool (...)."""
    return ~torch.isin(tokens, torch.tensor(list(special), dtype=tokens.dtype, device=tokens.device))


class SpanAutomaton:
    """A nondeterministic automaton over the places of the passages: each at which the next token may stand is marked.

    At first, every place of an ordinary token is; a token keeps the marks of the places that hold it and moves them on
    by one. So a step costs one comparison a place, and nothing is built for a passage beforehand.
    """

    def __init__(self, passage: Tensor, mask: Tensor, *, end: int, banned: Sequence[int] = ()) -> None:
        """
        Args:
            passage: tokens (R, P).
            mask: (R, P) bool, False at padding.
            end: the token that ends a sequence; allowed after at least one token, and never part of a span.
            banned: special tokens, never part of a span either: [PAD], [CLS], [UNK], [MASK].
        """
        self._passage, self._end = passage, end
        self._ordinary = mask & ordinary_tokens(passage, [end, *banned])
        self._next = self._ordinary
        self._begun = torch.zeros(len(passage), dtype=torch.bool, device=passage.device)

    def allowed(self, vocabulary: int) -> Tensor:
        """Next tokens (R, V) bool: those that lengthen a span, and the end once there is one."""
        allowed = torch.zeros(len(self._passage), vocabulary, dtype=torch.bool, device=self._passage.device)
        allowed.scatter_(1, self._passage.where(self._next, self._end), True)
        allowed[:, self._end] = self._begun
        return allowed

    def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
        """Append a token (R,) to each sequence, or to those that are ``active`` (R,) bool alone."""
        here = self._next & (self._passage == tokens[:, None])
        following = here.roll(1, dims=1) & self._ordinary
        following[:, :1] = False
        if active is None:
            self._next, self._begun = following, torch.ones_like(self._begun)
        else:
            self._next = following.where(active[:, None], self._next)
            self._begun = self._begun | active

    def select(self, rows: Tensor) -> None:
        """Go on with these sequences (R',): reordered, repeated or left out."""
        self._passage, self._ordinary = self._passage[rows], self._ordinary[rows]
        self._next, self._begun = self._next[rows], self._begun[rows]
