"""Words of a sentence as borrowing records: each pair of words at most a window apart (article 2, source a)."""

import torch
from torch import Tensor


def window_pairs(tokens: Tensor, sentences: Tensor, by_distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centers (P,), contexts (P,) and weights (P,) of running text.

    Words of one sentence at a distance of 1 to W are contexts of each other.

    Args:
        tokens: words' numbers (B,), after frequent ones were left out.
        sentences: (B,), a number that changes where the sentence does.
        by_distance: what a context at a distance of 1, ..., W counts (W,).
    """
    sentence = numbered(sentences)
    centers, contexts, weights = [tokens[:0]], [tokens[:0]], [by_distance[:0]]
    for offset in range(1, min(len(by_distance), len(tokens) - 1) + 1):
        together = sentence[:-offset] == sentence[offset:]
        left, right = tokens[:-offset][together], tokens[offset:][together]
        centers += [left, right]
        contexts += [right, left]
        weights.append(by_distance[offset - 1].expand(2 * len(left)))
    return torch.cat(centers), torch.cat(contexts), torch.cat(weights)


def numbered(sentences: Tensor) -> Tensor:
    """The sentence of each token (B,) by a number that no later one has: 0, 1, 2, ...

    Args:
        sentences: (B,), a number that changes where the sentence does, and may come back.
    """
    return torch.cat([sentences[:1] * 0, (sentences[1:] != sentences[:-1]).cumsum(0)])
