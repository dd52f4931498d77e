"""Pairs from passages, beside chains whose probabilities are known and beside a network that reads everything anew."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lit_modules.parts.pairs import Pair, generate_pairs
from lit_modules.parts.unilm_network import UniLMNetwork
from tests.lit_modules.markov import MarkovReader, all_sequences
from tests.lit_modules.tiny_unilm import VOCABULARY, each_kind, tiny_network
from tests.lit_modules.tiny_unilm import passages as random_passages

END, BANNED = 1, (0, 2)
READER = MarkovReader(8)


def passages(number: int) -> tuple[Tensor, Tensor]:
    """Of 3 to 6 ordinary tokens between token 2 and the end."""
    lengths = torch.randint(3, 7, (number, 1))
    place, tokens = torch.arange(8), torch.randint(3, 8, (number, 8))
    tokens = tokens.where(place > 0, 2).where(place <= lengths, END).where(place <= lengths + 1, 0)
    return tokens, place <= lengths + 1


def pairs_of(passage: Tensor, mask: Tensor, **changed: Any) -> list[list[Pair]]:
    settings: dict[str, Any] = {"number": 3, "seeds": range(len(passage)), "max_answer": 2, "max_question": 3}
    settings |= {"top_p": 1.0, "end": END, "banned": BANNED, **changed}
    return generate_pairs(READER, passage, mask, **settings)


def is_span(tokens: list[int], passage: Tensor) -> bool:
    text = passage.tolist()
    return any(text[start : start + len(tokens)] == tokens for start in range(len(text)))


@pytest.mark.parametrize("answer_first", [True, False])
def test_scores_and_the_second_parts(answer_first: bool) -> None:
    passage, mask = passages(6)
    limits = {"max_answer": 2, "max_question": 3} if answer_first else {"max_answer": 3, "max_question": 2}
    for row, pairs in enumerate(pairs_of(passage, mask, beams=200, answer_first=answer_first, **limits)):
        chain = READER.chain(passage[row][mask[row]])
        firsts = dict(all_sequences(chain, END, 2))
        seconds = {s: score for s, score in all_sequences(chain, END, 3, begin=END) if not set(BANNED) & set(s)}
        best = max(seconds, key=lambda tokens: seconds[tokens])
        assert len(pairs) == 3
        for pair in pairs:
            first, second = (pair.answer, pair.question) if answer_first else (pair.question, pair.answer)
            assert tuple(second) == best
            assert not set(BANNED) & set(first)
            assert pair.score == pytest.approx(firsts[tuple(first)] + seconds[best], abs=1e-5)
        assert len({tuple(pair.answer if answer_first else pair.question) for pair in pairs}) == 3


def test_a_passage_gets_the_same_in_any_company() -> None:
    passage, mask = passages(9)
    whole = pairs_of(passage, mask)
    rows = [7, 2, 4]
    assert pairs_of(passage[rows], mask[rows], seeds=rows) == [whole[row] for row in rows]
    for sequences in (1, 7, 50):
        assert pairs_of(passage, mask, rows=sequences) == whole
    other = pairs_of(passage, mask, seeds=range(100, 109))
    assert [pair.answer for pairs in other for pair in pairs] != [pair.answer for pairs in whole for pair in pairs]


def test_more_pairs_go_on_where_fewer_ended() -> None:
    passage, mask = passages(5)
    few, many = pairs_of(passage, mask, number=2), pairs_of(passage, mask, number=6)
    assert [pairs[:2] for pairs in many] == few
    assert all(len(pairs) == 6 for pairs in many)


def test_there_may_be_fewer_and_none_twice() -> None:
    passage, mask = passages(5)
    # Five answers are possible, the most probable ones come in the first round.
    found = {rounds: pairs_of(passage, mask, number=6, max_answer=1, rounds=rounds) for rounds in (1, 50)}
    assert [len(pairs) for pairs in found[50]] == [5] * 5
    assert sum(len(pairs) for pairs in found[1]) < 25
    for few, many in zip(found[1], found[50], strict=True):
        assert many[: len(few)] == few
        assert sorted(pair.answer[0] for pair in many) == [3, 4, 5, 6, 7]
    assert [len(pairs) for pairs in pairs_of(passage, mask, top_k=1)] == [1] * 5


@pytest.mark.parametrize("answer_first", [True, False])
def test_answers_are_spans_where_they_have_to_be(answer_first: bool) -> None:
    passage, mask = passages(30)
    settings = {"answer_first": answer_first, "max_answer": 3, "rounds": 30}
    for row, pairs in enumerate(pairs_of(passage, mask, answer_in_passage=True, **settings)):
        assert len(pairs) == 3
        assert all(is_span(pair.answer, passage[row]) for pair in pairs)
    free = pairs_of(passage, mask, **settings)
    assert not all(is_span(pair.answer, passage[row]) for row in range(30) for pair in free[row])


def test_answers_tear_no_word_apart() -> None:
    """Token 5 goes on with a word: none begins with it, and none ends before it."""
    passage, mask = passages(30)
    found = pairs_of(passage, mask, answer_in_passage=True, continuing=[5], max_answer=9, rounds=30)
    for row, pairs in enumerate(found):
        text = [2 if token == END else token for token in passage[row].tolist()]
        for pair in pairs:
            size = len(pair.answer)
            places = [i for i in range(len(text) - size + 1) if text[i : i + size] == pair.answer]
            assert any(text[i] != 5 or text[i - 1] == 2 for i in places)
            assert any(text[i + size : i + size + 1] != [5] for i in places)
    assert any(5 in pair.answer for pairs in found for pair in pairs)


def test_passages_without_text_give_nothing() -> None:
    passage, mask = torch.tensor([[2, END, 0, 0], [2, 3, 4, END], [2, 2, END, 0]]), torch.ones(3, 4).bool()
    for constrained in (True, False):
        found = pairs_of(passage, mask, answer_in_passage=constrained)
        assert [len(pairs) for pairs in found] == [0, 3, 0]
    assert pairs_of(passage[:1], mask[:1]) == [[]]
    assert pairs_of(passage[:0], mask[:0]) == []


def test_a_seed_for_each_passage() -> None:
    with pytest.raises(ValueError, match="5 passages, 4 seeds"):
        pairs_of(*passages(5), seeds=range(4))


@each_kind
@pytest.mark.parametrize("answer_first", [True, False])
def test_with_a_network(kind: str, answer_first: bool) -> None:
    network = tiny_network(kind)
    text, real = random_passages(9, 5, 12, 7)
    settings: dict[str, Any] = {"number": 3, "end": 2, "banned": (0, 1, 3, 4), "answer_first": answer_first}
    settings |= {"answer_in_passage": True, "max_answer": 4, "max_question": 6, "top_p": 0.9}
    found = generate_pairs(network, text, real, seeds=[5, 6, 7, 8], **settings)
    for row, pairs in enumerate(found):
        passage = text[row][real[row]]
        alone = generate_pairs(network, passage[None], real[row][real[row]][None], seeds=[5 + row], **settings)[0]
        assert len(pairs) == 3
        for pair, same in zip(pairs, alone, strict=True):
            assert pair[:2] == same[:2]
            assert is_span(pair.answer, passage)
            parts = (pair.answer, pair.question) if answer_first else (pair.question, pair.answer)
            assert pair.score == pytest.approx(score_anew(network, passage.tolist(), *parts), abs=1e-4)


@torch.no_grad()
def score_anew(network: UniLMNetwork, passage: list[int], first: list[int], second: list[int]) -> float:
    """log p(first, second | passage) of the whole sequence read at once."""
    tokens = torch.tensor([passage + first + [2] + second + [2]])
    begin = len(passage)
    segments = (torch.arange(tokens.shape[1]) >= begin).long()[None]
    logits = network(tokens, segments, torch.ones_like(tokens).bool())
    assert logits.shape[2] == VOCABULARY
    chosen = logits[0, begin - 1 : -1].log_softmax(dim=1).gather(1, tokens[0, begin:, None])
    return float(chosen.sum())
