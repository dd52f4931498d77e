"""Pairs of a question and its answer from passages: the first of the two is drawn, the second one searched for.

Source: article 8: answers are sampled, so that a passage gives several pairs, and each question is decoded by beam
search, so that it stays faithful. The article doesn't force the answer to be a span of the passage: here it can be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_modules.parts.answer_sampling import sample
from lit_modules.parts.beam_search import beam_search
from lit_modules.parts.decoding import Decoded, Decoder
from lit_modules.parts.span_automaton import SpanAutomaton, ordinary_tokens

T = TypeVar("T")


class PassageDecoder(Decoder, Protocol):
    """A decoder of sequences that follow passages."""

    def extend(self, tokens: Tensor, mask: Tensor) -> None:
        """Append the tokens (R, K) to the sequences at once, those where ``mask`` (R, K) is true."""

    def copy(self) -> Self:
        """Another one in the same state, which goes on alone."""


class PassageReader(Protocol):
    """A network that can write after passages."""

    def decoder(self, passage: Tensor, mask: Tensor) -> PassageDecoder:
        """A sequence each for the passages (B, P), of which ``mask`` (B, P) hides padding."""


class Pair(NamedTuple):
    """A question with its answer, as tokens without special ones.

    Attributes:
        answer: tokens.
        question: tokens.
        score: log p(answer, question | passage), both with their ends.
    """

    answer: list[int]
    question: list[int]
    score: float


def generate_pairs(
    network: PassageReader,
    passage: Tensor,
    passage_mask: Tensor,
    *,
    number: int,
    seeds: Sequence[int],
    end: int,
    banned: Sequence[int],
    continuing: Sequence[int] = (),
    answer_first: bool = True,
    answer_in_passage: bool = False,
    beams: int = 3,
    top_k: int | None = None,
    top_p: float = 0.95,
    temperature: float = 1.0,
    max_answer: int = 16,
    max_question: int = 64,
    rounds: int = 4,
    rows: int = 256,
) -> list[list[Pair]]:
    """Pairs of each passage in the order in which they were drawn; no two of a passage have the same first part.

    What comes out for a passage depends on it and its seed only, not on the other passages nor on ``rows``; with a
    greater ``number``, the pairs that there were come first.

    Args:
        network: in evaluation mode.
        passage: (B, P), [CLS] tokens [SEP] and padding.
        passage_mask: (B, P) bool, False at padding.
        number: of pairs a passage. There may be fewer: see ``rounds``; for a passage without ordinary tokens, none.
        seeds: of the passages, (B).
        end: the number of [SEP], which ends answers and questions.
        banned: numbers of the tokens that are never written: [PAD], [CLS], [UNK], [MASK].
        continuing: numbers of the tokens that go on with a word, such as "##er".
        answer_first: the answer is drawn and its question searched for; otherwise, the question is drawn.
        answer_in_passage: answers are spans of their passage, of whole words unless they reach ``max_answer``.
        beams: of the search.
        top_k: see :func:`~lit_modules.parts.answer_sampling.sample`, as for the next two.
        top_p: see there.
        temperature: see there.
        max_answer: longest answer in tokens.
        max_question: longest question in tokens.
        rounds: how often ``number`` first parts are drawn for a passage that doesn't have ``number`` distinct ones.
        rows: how many sequences are decoded at once, at most; that many need memory.

    Raises:
        ValueError: there isn't a seed for each passage, or a sequence is longer than the network takes.
    """
    if len(seeds) != len(passage):
        raise ValueError(f"a seed for each passage is needed: there are {len(passage)} passages, {len(seeds)} seeds")
    first, second = (max_answer, max_question) if answer_first else (max_question, max_answer)
    draw = partial(sample, end=end, banned=banned, max_length=first, top_k=top_k, top_p=top_p, temperature=temperature)
    search = partial(beam_search, end=end, banned=banned, beams=beams, max_length=second)
    pairs: list[list[Pair]] = [[] for _ in seeds]
    usable = (passage_mask & ordinary_tokens(passage, [end, *banned])).any(dim=1).nonzero()[:, 0].tolist()
    for chunk in _parts(usable, rows // (number * beams)):
        special = {"end": end, "banned": banned, "continuing": continuing}
        passages = _Passages(network, passage[chunk], passage_mask[chunk], special)
        begin = partial(passages.begin, constrained=answer_in_passage and answer_first)
        drawn = _draw_distinct(begin, draw, [seeds[i] for i in chunk], number, rounds, rows)
        begin = partial(passages.begin, constrained=answer_in_passage and not answer_first)
        for place, tokens, found, score in _search_seconds(begin, search, end, drawn, rows // beams):
            answer, question = (tokens, found) if answer_first else (found, tokens)
            pairs[chunk[place]].append(Pair(answer, question, score))
    return pairs


class _Passages:
    """Passages that were read once, after which decoding begins as often as is needed."""

    def __init__(self, network: PassageReader, passage: Tensor, mask: Tensor, special: Mapping[str, Any]) -> None:
        """
        Args:
            network: reads them.
            passage: (B, P).
            mask: (B, P) bool.
            special: numbers of tokens, as SpanAutomaton takes them.
        """
        longest = int(mask.sum(dim=1).max())
        self._passage, self._mask, self._special = passage[:, :longest], mask[:, :longest], special
        self._decoder = network.decoder(self._passage, self._mask)

    def begin(self, rows: Sequence[int], constrained: bool) -> tuple[PassageDecoder, SpanAutomaton | None]:
        """A decoder of a sequence each after these passages, and what makes it a span of its passage if asked for."""
        at = torch.tensor(rows, device=self._passage.device)
        decoder = self._decoder.copy()
        decoder.select(at)
        if not constrained:
            return decoder, None
        return decoder, SpanAutomaton(self._passage[at], self._mask[at], **self._special)


_Begin = Callable[[Sequence[int]], tuple[PassageDecoder, SpanAutomaton | None]]


def _draw_distinct(
    begin: _Begin, draw: Callable[..., Decoded], seeds: Sequence[int], number: int, rounds: int, rows: int
) -> list[dict[tuple[int, ...], float]]:
    """For each passage, distinct sequences in the order in which they were drawn, with their log-probabilities."""
    found: list[dict[tuple[int, ...], float]] = [{} for _ in seeds]
    for first in range(0, rounds * number, number):
        missing = [passage for passage, known in enumerate(found) if len(known) < number]
        wanted = [(passage, sample) for passage in missing for sample in range(first, first + number)]
        for part in _parts(wanted, rows):
            decoder, constraint = begin([passage for passage, _ in part])
            drawn = draw(decoder, keys=[f"{seeds[passage]}/{n}" for passage, n in part], constraint=constraint)
            for (passage, _), tokens, score in zip(part, drawn.tokens, drawn.log_probs.tolist(), strict=True):
                if len(found[passage]) < number:
                    found[passage].setdefault(tuple(tokens), score)
    return found


def _search_seconds(
    begin: _Begin,
    search: Callable[..., Decoded],
    end: int,
    drawn: Sequence[Mapping[tuple[int, ...], float]],
    searches: int,
) -> Iterator[tuple[int, list[int], list[int], float]]:
    """(number of the passage, first part, second part, score of both) for each first part, by passage."""
    firsts = [(passage, list(tokens), score) for passage, known in enumerate(drawn) for tokens, score in known.items()]
    for part in _parts(firsts, searches):
        decoder, constraint = begin([passage for passage, _, _ in part])
        written = [torch.tensor([*tokens, end]) for _, tokens, _ in part]
        lengths = torch.tensor([len(tokens) for tokens in written])
        device = decoder.logits.device
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        decoder.extend(pad_sequence(written, batch_first=True).to(device), mask.to(device))
        found = search(decoder, constraint=constraint)
        for (passage, tokens, score), second, log_prob in zip(
            part, found.tokens, found.log_probs.tolist(), strict=True
        ):
            yield passage, tokens, second, score + log_prob


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive items, ``size`` at a time, but at least one."""
    size = max(1, size)
    return (items[start : start + size] for start in range(0, len(items), size))
