"""Words, the choice of the items, and which occurrences stay."""

import numpy as np
import pytest
import torch

from datamodules.vocabulary import WordNumbers, choose_vocabulary, keep_probabilities


def test_what_makes_a_word() -> None:
    numbers = WordNumbers()
    tokens = [
        "The",
        "(see",
        "the",
        "--",
        "don't",
        "U.S.",
        "C++",
        "3.5%",
        "图书。",
        "की",
        "See",
        "__init__",
        "\u3000",
        "",
    ]
    assert [numbers[token] for token in tokens] == [0, 1, 0, -1, 2, 3, 4, 5, 6, 7, 1, 8, -1, -1]
    assert numbers.words() == ["the", "see", "don't", "u.s", "c", "3.5", "图书", "की", "init"]
    assert [numbers[token] for token in tokens] == [0, 1, 0, -1, 2, 3, 4, 5, 6, 7, 1, 8, -1, -1]


def test_capitals_and_punctuation_can_stay() -> None:
    numbers = WordNumbers(lowercase=False, keep_punctuation=True)
    assert [numbers[token] for token in ["The", "the", ",", "(see", " ", "\r\n"]] == [0, 1, 2, 3, -1, -1]
    assert numbers.words() == ["The", "the", ",", "(see"]


def test_forgotten_words_are_new_when_they_come_again() -> None:
    numbers = WordNumbers()
    assert [numbers[token] for token in ["a", "B", "b", "!", "c"]] == [0, 1, 1, -1, 2]
    numbers.forget(np.array([2, 1, 2]), 2)
    assert sorted(numbers) == ["a", "c"]
    assert [numbers[token] for token in ["B", "a", "c"]] == [3, 0, 2]
    assert numbers.words() == ["a", "", "c", "b"]


def test_choice() -> None:
    words, counts = ["a", "b", "c", "d", "e"], np.array([3, 7, 3, 1, 9])
    chosen = choose_vocabulary(words, counts, min_count=2, max_vocabulary=None, name="a text")
    assert chosen.items == ["e", "b", "a", "c"]
    assert chosen.counts.tolist() == [9, 7, 3, 3]
    assert chosen.counts.dtype == torch.float64
    assert chosen.ids.tolist() == [2, 1, 3, -1, 0]
    two = choose_vocabulary(words, counts, min_count=2, max_vocabulary=2, name="a text")
    assert two.items == ["e", "b"]
    assert two.ids.tolist() == [-1, 1, -1, -1, 0]


def test_no_frequent_word() -> None:
    message = r"no word of a\.txt occurs min_count=5 times .* \(the most frequent, 'b', 4\); lower min_count"
    with pytest.raises(ValueError, match=message):
        choose_vocabulary(["a", "b"], np.array([1, 4]), min_count=5, max_vocabulary=None, name="a.txt")


def test_keep_probabilities() -> None:
    counts = torch.tensor([500.0, 250, 249, 1], dtype=torch.float64)
    keep = keep_probabilities(counts, 0.01)
    # By hand: f = 1/2 and t/f = 1/50; f = 1/4 and t/f = 1/25.
    assert keep[0].item() == pytest.approx(0.02**0.5 + 0.02)
    assert keep[1].item() == pytest.approx(0.2 + 0.04)
    assert keep[3].item() == 1
    assert keep_probabilities(counts, 0).tolist() == [1] * 4
