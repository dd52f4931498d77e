"""Half pointer, half tagging: spans of a text by the probability of each character to be a start or an end.

Source: article 6, step 3, and its details.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_modules.parts.distributed import mean_over_ranks


def gated_cross_entropy(logits: Tensor, targets: Tensor, gate: Tensor, valid: Tensor) -> Tensor:
    """-sum_gated [y log p + (1 - y) log(1 - p)] / number of valid positions (scalar).

    This is the cross-entropy of probabilities that are multiplied by the gate, 0 or 1, where no target is 1 outside of
    it; such targets, which nothing could reach, count nothing. With several processes, the number is its mean over
    them, so that the mean of their losses is the loss of all their positions together.

    Args:
        logits: of p, (B, L).
        targets: y, 0 or 1, (B, L).
        gate: (B, L) bool, the positions at which there is something to learn.
        valid: (B, L) bool, the positions that are no padding.
    """
    each = binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
    return (each * (gate & valid)).sum() / mean_over_ranks(valid.sum().float()).clamp(min=1e-30)


def decoded_spans(starts: Tensor, ends: Tensor) -> list[list[tuple[int, int]]]:
    """Spans of each text: every start with the nearest end at or after it, if there is one.

    Args:
        starts: (B, L) bool, first characters.
        ends: (B, L) bool, last characters.

    Returns:
        For each text (start, end) with the end exclusive, by start.
    """
    length = starts.shape[1]
    positions = torch.arange(length, device=ends.device).expand_as(ends)
    nearest = torch.where(ends, positions, length).flip(1).cummin(dim=1).values.flip(1)
    spans: list[list[tuple[int, int]]] = [[] for _ in range(len(starts))]
    texts, first = (starts & (nearest < length)).nonzero(as_tuple=True)
    for text, start, last in zip(texts.tolist(), first.tolist(), nearest[texts, first].tolist(), strict=True):
        spans[text].append((start, last + 1))
    return spans
