"""Pairs of words in a window: the definition, slowly."""

import torch
from torch import Tensor

from lit_modules.parts.window_pairs import window_pairs

Pairs = list[tuple[int, int, float]]


def slow_pairs(tokens: Tensor, sentences: Tensor, by_distance: Tensor) -> Pairs:
    """Word by word, where sentences with equal numbers do not follow each other."""
    found = []
    for c in range(len(tokens)):
        for p in range(len(tokens)):
            one_sentence = bool((sentences[min(c, p) : max(c, p) + 1] == sentences[c]).all())
            if one_sentence and 0 < abs(p - c) <= len(by_distance):
                found.append((int(tokens[c]), int(tokens[p]), by_distance[abs(p - c) - 1].item()))
    return sorted(found)


def found(tokens: Tensor, sentences: Tensor, by_distance: Tensor) -> Pairs:
    center, context, weight = window_pairs(tokens, sentences, by_distance)
    assert center.dtype == context.dtype == torch.int64
    return sorted(zip(center.tolist(), context.tolist(), weight.tolist(), strict=True))


def test_one_sentence() -> None:
    tokens, one = torch.tensor([7, 8, 9]), torch.zeros(3, dtype=torch.int64)
    near = [(7, 8, 1.0), (8, 7, 1.0), (8, 9, 1.0), (9, 8, 1.0)]
    assert found(tokens, one, torch.tensor([1.0])) == near
    assert found(tokens, one, torch.tensor([1.0, 0.5])) == sorted([*near, (7, 9, 0.5), (9, 7, 0.5)])


def test_no_pair_crosses_sentences() -> None:
    tokens, wide = torch.arange(4), torch.ones(9)
    assert found(tokens, torch.tensor([5, 5, 6, 6]), wide) == [(0, 1, 1), (1, 0, 1), (2, 3, 1), (3, 2, 1)]
    # A number that comes back is another sentence's.
    assert found(tokens, torch.tensor([0, 1, 0, 0]), wide) == [(2, 3, 1), (3, 2, 1)]


def test_equals_the_definition() -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(9, (40,), generator=generator)
        sentences = (torch.rand(40, generator=generator) < 0.15).cumsum(0) % 3
        by_distance = torch.rand(5, generator=generator)
        assert found(tokens, sentences, by_distance) == slow_pairs(tokens, sentences, by_distance)


def test_little_text() -> None:
    for length in (0, 1):
        none = torch.zeros(length, dtype=torch.int64)
        assert found(none, none, torch.ones(5)) == []
