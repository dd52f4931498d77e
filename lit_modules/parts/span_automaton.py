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

    At first, every place of an ordinary token that begins a word is; a token keeps the marks of the places that hold it
    and moves them on by one. So a step costs one comparison a place, and nothing is built for a passage beforehand.
    """

    def __init__(
        self, passage: Tensor, mask: Tensor, *, end: int, banned: Sequence[int] = (), continuing: Sequence[int] = ()
    ) -> None:
        """
        Args:
            passage: tokens (R, P).
            mask: (R, P) bool, False at padding.
            end: the token that ends a sequence; allowed after at least one token, and never part of a span.
            banned: special tokens, never part of a span either: [PAD], [CLS], [UNK], [MASK].
            continuing: tokens that go on with a word, before which no span begins or ends: "##er" in WordPiece.
        """
        self._passage, self._end = passage, end
        self._ordinary = mask & ordinary_tokens(passage, [end, *banned])
        before = self._ordinary.roll(1, dims=1)
        before[:, :1] = False
        # What goes on with nothing that can be written begins something.
        inside = self._ordinary & before & ~ordinary_tokens(passage, continuing)
        self._next = self._ordinary & ~inside
        self._ends = ~inside.roll(-1, dims=1)
        self._ends[:, -1:] = True
        self._whole = torch.zeros(len(passage), dtype=torch.bool, device=passage.device)

    def allowed(self, vocabulary: int) -> Tensor:
        """Next tokens (R, V) bool: those that lengthen a span, and the end where it is one of whole words."""
        allowed = torch.zeros(len(self._passage), vocabulary, dtype=torch.bool, device=self._passage.device)
        allowed.scatter_(1, self._passage.where(self._next, self._end), True)
        allowed[:, self._end] = self._whole
        return allowed

    def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
        """Append a token (R,) to each sequence, or to those that are ``active`` (R,) bool alone."""
        here = self._next & (self._passage == tokens[:, None])
        following = here.roll(1, dims=1) & self._ordinary
        following[:, :1] = False
        # Where no word goes on; also after a token that lengthens nothing.
        whole = ~following.any(dim=1) | (here & self._ends).any(dim=1)
        if active is None:
            self._next, self._whole = following, whole
        else:
            self._next = following.where(active[:, None], self._next)
            self._whole = whole.where(active, self._whole)

    def select(self, rows: Tensor) -> None:
        """Go on with these sequences (R',): reordered, repeated or left out."""
        self._passage, self._ordinary, self._ends = self._passage[rows], self._ordinary[rows], self._ends[rows]
        self._next, self._whole = self._next[rows], self._whole[rows]
