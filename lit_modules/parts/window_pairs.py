"""Words of a sentence as borrowing records: each pair of words at most a window apart (article 2, source a)."""

import torch
from torch import Tensor


def window_pairs(tokens: Tensor, sentences: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Centers (B,) and contexts (B,) of running text.

    The word at position p is a context of the one at c if they are of the same sentence and 0 < |p - c| <= windows[c].

    Args:
        tokens: words' numbers (T,), after frequent ones were left out.
        sentences: (T,), a number that changes where the sentence does.
        windows: (T,), how far each center looks, usually drawn from 1 to the largest window.
    """
    # A number may come back in a later sentence: count the changes.
    sentence = torch.cat([sentences[:1] * 0, (sentences[1:] != sentences[:-1]).cumsum(0)])
    largest = min(int(windows.max()), len(tokens) - 1) if len(tokens) else 0
    centers, contexts = [tokens[:0]], [tokens[:0]]
    for offset in range(1, largest + 1):
        left, right = tokens[:-offset], tokens[offset:]
        together = sentence[:-offset] == sentence[offset:]
        forward, backward = together & (windows[:-offset] >= offset), together & (windows[offset:] >= offset)
        centers += [left[forward], right[backward]]
        contexts += [right[forward], left[backward]]
    return torch.cat(centers), torch.cat(contexts)
