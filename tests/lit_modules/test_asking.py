"""From texts to tokens, and from tokens to texts; what is generated in between is given."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from lit_modules.parts import asking
from lit_modules.parts.asking import Asker, GeneratedPair
from lit_modules.parts.pairs import Pair
from lit_modules.parts.qa_tokenizer import QATokenizer
from tests.lit_modules.passage_data import WORDS, tokenizer_of

HOW: dict[str, Any] = {"answer_first": True, "answer_in_passage": False, "beams": 2, "top_k": None, "top_p": 0.9}
HOW |= {"temperature": 1.0, "max_answer": 3, "max_question": 9, "pairs": 2}


def numbers(text: str) -> list[int]:
    return QATokenizer(tokenizer_of(WORDS)).encode(text).numbers


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the generator was asked for; every passage gets the same two pairs."""
    asked: dict[str, Any] = {}

    def generate(network: Any, passage: Any, mask: Any, **how: Any) -> list[list[Pair]]:
        asked.update(how, passage=passage.tolist(), mask=mask.tolist())
        pairs = [
            Pair(numbers("likes figs"), numbers("What does Bob like?"), -1.5),
            Pair(numbers("bob figs"), numbers("who"), -2.0),
        ]
        return [pairs for _ in passage]

    monkeypatch.setattr(asking, "generate_pairs", generate)
    return asked


def asker(words: Sequence[str] = WORDS) -> Asker:
    return Asker(None, QATokenizer(tokenizer_of(words)), HOW, torch.device("cpu"))  # type: ignore[arg-type]


def test_texts_become_tokens_and_tokens_texts(given: dict[str, Any]) -> None:
    first, empty, second = asker().about(["BOB  Likes  Figs", " ", "tea"], [3, 4, 5])
    assert first == [
        GeneratedPair("what does bob like?", "Likes  Figs", -1.5, 5, 16),
        GeneratedPair("who", "bob figs", -2.0, None, None),
    ]
    assert empty == []
    assert second[0] == GeneratedPair("what does bob like?", "likes figs", -1.5)
    assert given["passage"] == [[2, *numbers("bob likes figs"), 3], [2, *numbers("tea"), 3, 0, 0]]
    assert given["mask"] == [[True] * 5, [True] * 3 + [False] * 2]
    assert given["seeds"] == [3, 5]
    assert (given["end"], given["banned"]) == (3, [0, 1, 2])
    assert given["number"] == 2


def test_words_are_not_to_be_torn(given: dict[str, Any]) -> None:
    asker([*WORDS, "##s"]).about(["tea"], [0])
    assert given["continuing"] == [4 + len(WORDS)]


def test_how_many_and_how(given: dict[str, Any]) -> None:
    asker().about(["tea"], [0], 7)
    assert given["number"] == 7
    for name, value in HOW.items():
        assert name == "pairs" or given[name] == value


def test_nothing_to_ask_about(given: dict[str, Any]) -> None:
    assert asker().about([], []) == []
    assert asker().about([""], [0]) == [[]]
    assert not given
