"""Pairs of words in a window: the definition, slowly."""

import torch
from torch import Tensor

from lit_modules.parts.window_pairs import window_pairs


def slow_pairs(tokens: Tensor, sentences: Tensor, windows: Tensor) -> list[tuple[int, int]]:
    """Word by word, where sentences with equal numbers do not follow each other."""
    found = []
    for c in range(len(tokens)):
        for p in range(len(tokens)):
            one_sentence = bool((sentences[min(c, p) : max(c, p) + 1] == sentences[c]).all())
            if one_sentence and 0 < abs(p - c) <= windows[c]:
                found.append((int(tokens[c]), int(tokens[p])))
    return sorted(found)


def found(tokens: Tensor, sentences: Tensor, windows: Tensor) -> list[tuple[int, int]]:
    center, context = window_pairs(tokens, sentences, windows)
    assert center.dtype == context.dtype == torch.int64
    return sorted(zip(center.tolist(), context.tolist(), strict=True))


def test_one_sentence() -> None:
    tokens, one = torch.tensor([7, 8, 9]), torch.zeros(3, dtype=torch.int64)
    assert found(tokens, one, torch.tensor([1, 1, 1])) == [(7, 8), (8, 7), (8, 9), (9, 8)]
    assert found(tokens, one, torch.tensor([2, 1, 1])) == [(7, 8), (7, 9), (8, 7), (8, 9), (9, 8)]


def test_no_pair_crosses_sentences() -> None:
    tokens, wide = torch.arange(4), torch.full((4,), 9)
    assert found(tokens, torch.tensor([5, 5, 6, 6]), wide) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    # A number that comes back is another sentence's.
    assert found(tokens, torch.tensor([0, 1, 0, 0]), wide) == [(2, 3), (3, 2)]


def test_equals_the_definition() -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(9, (40,), generator=generator)
        sentences = (torch.rand(40, generator=generator) < 0.15).cumsum(0) % 3
        windows = torch.randint(1, 6, (40,), generator=generator)
        assert found(tokens, sentences, windows) == slow_pairs(tokens, sentences, windows)


def test_little_text() -> None:
    for length in (0, 1):
        none = torch.zeros(length, dtype=torch.int64)
        assert found(none, none, none + 5) == []
