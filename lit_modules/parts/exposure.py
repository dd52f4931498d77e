"""Training on inputs that are not all right, as those that a network writes itself will not be.

Source: the author's trick against exposure bias in another article of the blog (Scientific Spaces, 2020-03-09): half of
the targets get a share of their inputs replaced by random tokens of the same target.
"""

import torch
from torch import Tensor


def with_wrong_inputs(tokens: Tensor, ordinary: Tensor, draws: Tensor, share: float) -> Tensor:
    """Targets in half of which some tokens are replaced by others of the same target.

    What is drawn for a token depends on its number in the target, not on padding.

    Args:
        tokens: (B, T).
        ordinary: bool (B, T), those that may be replaced and that others are replaced by.
        draws: (B, 1 + 2 N) in [0, 1), where N is at least the number of ordinary tokens of a target: whether the
            target is one of that half, then for each token whether it is replaced, then by which.
        share: how likely a token of that half is replaced.

    Returns:
        (B, T), a tensor of its own.
    """
    number = draws.shape[1] // 2
    nth = (ordinary.long().cumsum(dim=1) - 1).clamp(min=0)
    replaced = draws[:, 1 : 1 + number].gather(1, nth) < share * (draws[:, :1] < 0.5)
    count = ordinary.sum(dim=1, keepdim=True)
    other = (draws[:, 1 + number :].gather(1, nth) * count).long().minimum((count - 1).clamp(min=0))
    # The ordinary tokens first, in their order.
    places = (~ordinary).long().argsort(dim=1, stable=True)
    return torch.where(ordinary & replaced, tokens.gather(1, places.gather(1, other)), tokens)
