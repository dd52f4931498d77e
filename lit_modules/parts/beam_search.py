"""Beam search for many sequences at once.

Source: article 8 decodes questions so. The score is the sum of log-probabilities, without a factor for length.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_modules.parts.decoding import Constraint, Decoded, Decoder, filtered, without_padding


def beam_search(
    decoder: Decoder,
    *,
    end: int,
    beams: int,
    max_length: int,
    banned: Sequence[int] = (),
    constraint: Constraint | None = None,
) -> Decoded:
    """The most probable sequence of at least one token that a beam search finds, for each row of its own.

    At each length, the ``beams`` most probable beginnings go on. A sequence is complete if, with its end, it is as
    probable as the last of them: otherwise anything broken off would count, and be preferred for being short. A search
    is done when its best complete sequence is as probable as its best beginning, which can only get less probable. A
    sequence of ``max_length`` tokens is complete with its end, whatever the probability of that. So one beam is greedy.

    Args:
        decoder: G sequences, a search each; of no use afterwards.
        end: the token that ends a sequence.
        beams: K, at least 1.
        max_length: of a sequence in tokens, without its end.
        banned: tokens that never come.
        constraint: what may come next, (G) as the decoder; of no use afterwards.

    Returns:
        G sequences; where none is possible, no tokens and a log-probability of minus infinity.
    """
    search = _Searches(len(decoder.logits), max_length, decoder.logits.device)
    for length in range(max_length + 1):
        log_norm = decoder.logits.float().logsumexp(dim=1, keepdim=True)
        usable = filtered(decoder.logits, banned, constraint)
        ends = usable[:, end] - log_norm[:, 0] if length > 0 else torch.full_like(usable[:, end], -torch.inf)
        if length == max_length:
            search.complete(ends)
            break
        usable[:, end] = -torch.inf
        greatest = usable.topk(min(beams, usable.shape[1]))
        rows, tokens = search.lengthen(greatest.values - log_norm, greatest.indices, ends, beams)
        if not len(rows):
            break
        for follower in (decoder, constraint):
            if follower is not None:
                follower.select(rows)
                follower.advance(tokens, search.active)
    return Decoded(without_padding(search.best_tokens, search.best_lengths), search.best)


class _Searches:
    """The beginnings of G searches under way, K each, and the best complete sequence of all N.

    Rows of a decoder are (G * K); K is 1 before the first token.
    """

    def __init__(self, number: int, max_length: int, device: torch.device) -> None:
        self.best = torch.full((number,), -torch.inf, device=device)
        self.best_tokens = torch.zeros(number, max_length, dtype=torch.long, device=device)
        self.best_lengths = torch.zeros(number, dtype=torch.long, device=device)
        self._numbers = torch.arange(number, device=device)  # (G), of each search among all
        self._scores = torch.zeros(number, 1, device=device)  # (G, K); minus infinity: nothing goes on there
        self._tokens = torch.zeros(number, 1, 0, dtype=torch.long, device=device)  # (G, K, length)

    @property
    def active(self) -> Tensor:
        """The rows that go on (G * K) bool."""
        return (self._scores > -torch.inf).flatten()

    def complete(self, ends: Tensor, least: Tensor | float = -torch.inf) -> None:
        """Take note of the sequences that end here.

        Args:
            ends: log-probabilities of the end after each beginning (G * K).
            least: log-probability that such a sequence must have, (G) or one for all.
        """
        best, beam = (self._scores + ends.view_as(self._scores)).max(dim=1)
        length = self._tokens.shape[2]
        better = (best > self.best[self._numbers]) & (best >= least)
        numbers = self._numbers[better]
        self.best[numbers] = best[better]
        self.best_tokens[numbers, :length] = self._tokens[better, beam[better]]
        self.best_lengths[numbers] = length

    def lengthen(self, log_probs: Tensor, tokens: Tensor, ends: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """Go on with the most probable of these tokens or end here, without the searches that are done.

        Args:
            log_probs: of the tokens (G * K, n).
            tokens: the most probable next ones of each beginning (G * K, n).
            ends: log-probabilities of the end (G * K).
            beams: how many beginnings go on.

        Returns:
            The rows that are lengthened and their tokens, both (G * K), where G and K are the new ones.
        """
        searches, before = self._scores.shape
        each = tokens.shape[1]
        candidates = (self._scores.view(-1, 1) + log_probs).view(searches, before * each)
        scores, places = candidates.topk(min(beams, before * each))
        # Where there are fewer than K, the end itself, at minus infinity, is the last of them.
        self.complete(ends, scores[:, -1])
        beam = places // each
        chosen = tokens.view(searches, before * each).gather(1, places)
        rows = beam + before * torch.arange(searches, device=beam.device)[:, None]
        self._tokens = torch.cat([self._tokens.flatten(0, 1)[rows], chosen[:, :, None]], dim=2)
        # Rows of searches that are done would cost as much as the others.
        going = scores[:, 0] > self.best[self._numbers]
        self._numbers, self._scores, self._tokens = self._numbers[going], scores[going], self._tokens[going]
        return rows[going].flatten(), chosen[going].flatten()
