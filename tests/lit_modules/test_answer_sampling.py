"""Sampling beside a chain whose probabilities are known."""

from collections import Counter

import pytest
import torch

from lit_modules.parts.answer_sampling import drawn_tokens, nucleus, sample, top_tokens, uniform_numbers
from lit_modules.parts.span_automaton import SpanAutomaton
from tests.lit_modules.markov import MarkovDecoder, all_sequences, chains

END = 1


def keys(rows: int) -> list[str]:
    return [str(row) for row in range(rows)]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sequences_come_as_often_as_they_are_probable(temperature: float) -> None:
    table = chains(1, 3, sharpness=1.0)
    decoded = sample(
        MarkovDecoder(table.expand(4000, -1, -1)), keys=keys(4000), end=END, max_length=2, temperature=temperature
    )
    tempered = (table[0] / temperature).log_softmax(dim=1)
    tempered[0] = tempered[0].index_fill(0, torch.tensor(END), -torch.inf).log_softmax(dim=0)
    expected: dict[tuple[int, ...], float] = {}
    for first in (0, 2):
        # Token 0 is never left for the end at the beginning only; here the first token comes after none.
        begun = tempered[0, first].exp()
        following = (table[0, first] / temperature).log_softmax(dim=0).exp()
        expected[(first,)] = float(begun * following[END])
        expected |= {(first, second): float(begun * following[second]) for second in (0, 2)}
    assert sum(expected.values()) == pytest.approx(1, abs=1e-5)
    found = Counter(tuple(row) for row in decoded.tokens)
    for tokens, share in expected.items():
        assert found[tokens] / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


def test_log_probabilities_are_the_models_own_whatever_is_filtered() -> None:
    table = chains(40, 5)
    decoded = sample(
        MarkovDecoder(table), keys=keys(40), end=END, max_length=3, top_k=3, top_p=0.9, temperature=2.0, banned=[4]
    )
    for row, (tokens, score) in enumerate(zip(decoded.tokens, decoded.log_probs.tolist(), strict=True)):
        assert score == pytest.approx(dict(all_sequences(table[row], END, 3))[tuple(tokens)], abs=1e-5)
        assert 1 <= len(tokens) <= 3
        assert not {END, 4} & set(tokens)
    assert {len(tokens) for tokens in decoded.tokens} == {1, 2, 3}


def test_every_row_is_left_after_its_end() -> None:
    decoder = MarkovDecoder(chains(30, 4), [[3]] * 30)
    decoded = sample(decoder, keys=keys(30), end=END, max_length=2)
    assert decoder.written == [[3, *tokens, END] for tokens in decoded.tokens]


def test_a_row_depends_on_its_key_and_not_on_the_batch() -> None:
    table = chains(20, 6)
    whole = sample(MarkovDecoder(table), keys=keys(20), end=END, max_length=5, top_p=0.9)
    rows = torch.tensor([7, 3, 19])
    part = sample(MarkovDecoder(table[rows]), keys=["7", "3", "19"], end=END, max_length=8, top_p=0.9)
    assert [tokens[:5] for tokens in part.tokens] == [whole.tokens[row] for row in rows]
    other = sample(MarkovDecoder(table), keys=[f"again {key}" for key in keys(20)], end=END, max_length=5, top_p=0.9)
    assert other.tokens != whole.tokens


def test_top_k_keeps_what_is_as_great_as_the_last() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0]])
    inf = torch.inf
    assert top_tokens(logits, 2).tolist() == [[-inf, 3.0, 2.0, 2.0, -inf]]
    assert top_tokens(logits, 1).tolist() == [[-inf, 3.0, -inf, -inf, -inf]]
    assert top_tokens(logits, 9) is logits
    assert top_tokens(logits, None) is logits


def test_the_nucleus_keeps_the_token_that_crosses() -> None:
    probabilities = torch.tensor([[0.125, 0.5, 0.25, 0.0625, 0.0625], [0.2, 0.2, 0.2, 0.2, 0.2]])
    kept = {p: [(row > 0).nonzero()[:, 0].tolist() for row in nucleus(probabilities, p)] for p in (0.4, 0.5, 0.6, 0.9)}
    assert [kept[p][0] for p in (0.4, 0.5, 0.6, 0.9)] == [[1], [1], [1, 2], [0, 1, 2, 3, 4]]
    assert kept[0.4][1] == [0, 1, 2, 3, 4]  # equals belong together
    assert nucleus(probabilities, 1.0) is probabilities


def test_a_wide_nucleus_is_exact() -> None:
    probabilities = torch.randn(3, 1000).mul(0.1).softmax(dim=1)
    for row, kept in zip(probabilities, nucleus(probabilities, 0.8), strict=True):
        ordered = row.sort(descending=True)
        number = int((ordered.values.double().cumsum(dim=0) < 0.8).sum()) + 1
        assert set(kept.nonzero()[:, 0].tolist()) == set(ordered.indices[:number].tolist())


def test_draws_take_no_token_of_probability_0() -> None:
    probabilities = torch.tensor([[0.0, 0.3, 0.0, 0.2, 0.0]]).expand(3, -1)
    assert drawn_tokens(probabilities, torch.tensor([0.0, 0.65, 1 - 2**-53]).double()).tolist() == [1, 3, 3]


def test_random_numbers_of_a_key_have_the_same_beginning_at_any_length() -> None:
    short, long = uniform_numbers(["a", "b"], 3), uniform_numbers(["b"], 30)
    assert torch.equal(short[1], long[0, :3])
    assert not torch.equal(short[0], short[1])
    assert uniform_numbers([], 3).shape == (0, 3)


def test_a_constraint_leads_the_draws() -> None:
    passage = torch.randint(2, 6, (50, 8))
    mask = torch.arange(8) < torch.randint(1, 9, (50, 1))
    automaton = SpanAutomaton(passage, mask, end=END)
    decoded = sample(MarkovDecoder(chains(50, 6)), keys=keys(50), end=END, max_length=4, constraint=automaton)
    for tokens, text, real in zip(decoded.tokens, passage.tolist(), mask.sum(dim=1).tolist(), strict=True):
        assert any(text[start : start + len(tokens)] == tokens for start in range(real - len(tokens) + 1))
    assert max(map(len, decoded.tokens)) > 1


def test_nothing_to_draw_from() -> None:
    with pytest.raises(ValueError, match="no token may come next"):
        sample(MarkovDecoder(chains(2, 4)), keys=keys(2), end=END, max_length=2, banned=[0, 2, 3])
    with pytest.raises(ValueError, match="2 rows, there are 3 keys"):
        sample(MarkovDecoder(chains(2, 4)), keys=keys(3), end=END, max_length=2)
    with pytest.raises(ValueError, match="no token may come next"):
        sample(MarkovDecoder(chains(2, 4) * torch.nan), keys=keys(2), end=END, max_length=2)


def test_no_rows() -> None:
    decoded = sample(MarkovDecoder(chains(0, 4)), keys=[], end=END, max_length=2)
    assert decoded.tokens == []
    assert decoded.log_probs.shape == (0,)
