"""Beam search beside all sequences, and beside one that is written for a single sequence."""

import pytest
import torch
from torch import Tensor

from lit_modules.parts import beam_search as module
from lit_modules.parts.beam_search import beam_search
from lit_modules.parts.span_automaton import SpanAutomaton
from tests.lit_modules.markov import MarkovDecoder, all_sequences, chains

END = 1


def plain_search(log_probs: Tensor, beams: int, max_length: int) -> tuple[tuple[int, ...], float]:
    """What a search of one sequence finds, by Python's lists."""
    table = log_probs.tolist()
    best: tuple[tuple[int, ...], float] = ((), -float("inf"))
    beginnings: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for length in range(max_length + 1):
        for tokens, score in beginnings if length else []:
            if score + table[tokens[-1]][END] > best[1]:
                best = tokens, score + table[tokens[-1]][END]
        longer = [
            ((*tokens, token), score + value)
            for tokens, score in beginnings
            for token, value in enumerate(table[tokens[-1] if tokens else 0])
            if token != END
        ]
        beginnings = sorted(longer, key=lambda beginning: -beginning[1])[:beams]
        if beginnings[0][1] <= best[1]:
            break
    return best


def test_wide_beams_find_the_most_probable_of_all() -> None:
    table = chains(12, 4)
    decoded = beam_search(MarkovDecoder(table), end=END, beams=81, max_length=4)
    for row, (tokens, score) in enumerate(zip(decoded.tokens, decoded.log_probs.tolist(), strict=True)):
        expected = max(all_sequences(table[row], END, 4), key=lambda sequence: sequence[1])
        assert tuple(tokens) == expected[0]
        assert score == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("share", [0.0, 0.25, 2.0])
def test_many_at_once_are_each_searched_as_alone(monkeypatch: pytest.MonkeyPatch, beams: int, share: float) -> None:
    monkeypatch.setattr(module, "DROPPED_SHARE", share)
    table = chains(60, 9)
    table[:30, :-1, END] -= 20  # longer ones, for which to end pays after few tokens only
    table = table.log_softmax(dim=2)
    decoded = beam_search(MarkovDecoder(table), end=END, beams=beams, max_length=4)
    for row, (tokens, score) in enumerate(zip(decoded.tokens, decoded.log_probs.tolist(), strict=True)):
        expected = plain_search(table[row], beams, 4)
        assert tuple(tokens) == expected[0]
        assert score == pytest.approx(expected[1], abs=1e-4)
    assert {len(tokens) for tokens in decoded.tokens} == {1, 2, 3, 4}


def test_narrow_beams_miss_what_wider_ones_find() -> None:
    table = chains(200, 6)
    scores = [beam_search(MarkovDecoder(table), end=END, beams=beams, max_length=4).log_probs for beams in (1, 3, 200)]
    assert (scores[0] <= scores[1] + 1e-5).float().mean() > 0.95
    assert (scores[1] <= scores[2] + 1e-5).all()
    assert (scores[0] < scores[2] - 1e-3).any()


def test_searches_that_are_done_are_dropped() -> None:
    sizes = []

    class Watched(MarkovDecoder):
        def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
            sizes.append(len(tokens))
            super().advance(tokens, active)

    # In the first three chains the end is certain after the first token; in the last one, more may still be better.
    table = torch.full((4, 3, 3), -30.0)
    table[:, 0, 2] = 0
    table[:3, 2, END] = 0
    table[3, 2] = torch.tensor([0, 0.1, 0.9]).log()
    decoded = beam_search(Watched(table), end=END, beams=2, max_length=5)
    assert decoded.tokens == [[2], [2], [2], [2]]
    assert decoded.log_probs.exp().tolist() == pytest.approx([1, 1, 1, 0.1], abs=1e-4)
    assert sizes == [8, 2, 2, 2, 2]


def test_beams_do_not_go_on_with_banned_tokens() -> None:
    table = chains(30, 6)
    decoded = beam_search(MarkovDecoder(table), end=END, beams=300, max_length=3, banned=[0, 4])
    for row, (tokens, score) in enumerate(zip(decoded.tokens, decoded.log_probs.tolist(), strict=True)):
        allowed = [s for s in all_sequences(table[row], END, 3) if not {0, 4} & set(s[0])]
        expected = max(allowed, key=lambda sequence: sequence[1])
        assert (tuple(tokens), score) == (expected[0], pytest.approx(expected[1], abs=1e-5))


@pytest.mark.parametrize("beams", [2, 50])
def test_a_constraint_leads_the_beams(beams: int) -> None:
    table, passage = chains(40, 7), torch.randint(2, 7, (40, 9))
    mask = torch.arange(9) < torch.randint(1, 10, (40, 1))
    automaton = SpanAutomaton(passage, mask, end=END)
    decoded = beam_search(MarkovDecoder(table), end=END, beams=beams, max_length=3, constraint=automaton)
    for row, tokens in enumerate(decoded.tokens):
        text = passage[row][mask[row]].tolist()
        spans = {tuple(text[start : start + length]) for start in range(len(text)) for length in (1, 2, 3)}
        assert tuple(tokens) in spans
        if beams == 50:
            possible = [s for s in all_sequences(table[row], END, 3) if s[0] in spans]
            assert tuple(tokens) == max(possible, key=lambda sequence: sequence[1])[0]


def test_where_nothing_is_possible() -> None:
    passage = torch.tensor([[2, 3, 2], [0, 0, 0]])
    automaton = SpanAutomaton(passage, passage != 0, end=END)
    decoded = beam_search(MarkovDecoder(chains(2, 4)), end=END, beams=3, max_length=3, constraint=automaton)
    assert decoded.tokens[0]
    assert decoded.tokens[1] == []
    assert decoded.log_probs[1] == -torch.inf
    assert beam_search(MarkovDecoder(chains(0, 4)), end=END, beams=3, max_length=3).tokens == []
