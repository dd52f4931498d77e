"""Beam search beside all sequences, and beside one that is written for a single sequence."""

import pytest
import torch
from torch import Tensor

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
        complete = [(tokens, score + table[tokens[-1]][END]) for tokens, score in beginnings if length]
        longer = [
            ((*tokens, token), score + value)
            for tokens, score in beginnings
            for token, value in enumerate(table[tokens[-1] if tokens else 0])
            if token != END
        ]
        beginnings = sorted(longer, key=lambda beginning: -beginning[1])[:beams]
        least = beginnings[-1][1] if length < max_length else -float("inf")
        best = max([best, *(sequence for sequence in complete if sequence[1] >= least)], key=lambda found: found[1])
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
def test_many_at_once_are_each_searched_as_alone(beams: int) -> None:
    table = chains(120, 9)
    table[:60, :, END] -= 2  # longer ones
    # Ways that differ in the order of loops alone are as probable: which one comes is anybody's choice.
    table[:, torch.arange(9), torch.arange(9)] -= 20
    table[:, :, 0] -= 20
    table = table.log_softmax(dim=2)
    decoded = beam_search(MarkovDecoder(table), end=END, beams=beams, max_length=4)
    for row, (tokens, score) in enumerate(zip(decoded.tokens, decoded.log_probs.tolist(), strict=True)):
        expected = plain_search(table[row], beams, 4)
        assert tuple(tokens) == expected[0]
        assert score == pytest.approx(expected[1], abs=1e-4)
    assert {len(tokens) for tokens in decoded.tokens} == {1, 2, 3, 4}


def test_one_beam_is_greedy() -> None:
    table = chains(50, 6)
    decoded = beam_search(MarkovDecoder(table), end=END, beams=1, max_length=5)
    for row, tokens in enumerate(decoded.tokens):
        greedy: list[int] = []
        while len(greedy) < 5:
            chances = table[row, greedy[-1] if greedy else 0].clone()
            if not greedy:
                chances[END] = -torch.inf
            if chances.argmax() == END:
                break
            greedy.append(int(chances.argmax()))
        assert tokens == greedy
    assert len({len(tokens) for tokens in decoded.tokens}) > 2


def test_what_is_broken_off_does_not_win_by_being_short() -> None:
    # To go on costs 1/2 a token, to end early 1/100: ended after one token, it would be 1/100 rather than 1/512.
    table = torch.full((1, 12, 12), 0.005)
    table[0, :, END] = 0.01
    for token in range(2, 11):
        table[0, token, token + 1] = 0.5
    table[0, 0, 2], table[0, 11, END] = 1.0, 1.0
    decoded = beam_search(MarkovDecoder(table.log()), end=END, beams=2, max_length=15)
    assert decoded.tokens == [list(range(2, 12))]


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
