"""Who sees whom, and where each token stands, in a sequence of UniLM: a passage that is read both ways, then a target
that is written from left to right.

Sequences are padded anywhere, between the parts too: positions count real tokens, and no token sees padding.

Source: article 8; the mask is that of Dong et al., Unified Language Model Pre-training, https://arxiv.org/abs/1905.03197.
"""

import torch
from torch import Tensor


def unilm_mask(mask: Tensor, segments: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask of a whole sequence, to be added to attention scores.

    Args:
        mask: bool (B, S), whether a token is real.
        segments: (B, S), 0 for the passage, which comes first, and 1 for the target.
        dtype: of the network's weights.

    Returns:
        (B, 1, S, S) as :func:`additive` makes it: a token of the passage sees the passage, one of the target the
        passage and the target up to itself.
    """
    place = torch.arange(mask.shape[1], device=mask.device)
    seen = mask[:, None, :] & ((segments == 0)[:, None, :] | (place[None, :] <= place[:, None]))
    # Padding sees itself: where nothing is seen, half precision makes NaN.
    seen.diagonal(dim1=1, dim2=2).fill_(True)
    return additive(seen, dtype)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a key is seen and the lowest number of the type where not, the one form that all attentions take alike.

    Args:
        seen: bool (B, Q, S), whether query q sees key s.
        dtype: of the network's weights.

    Returns:
        (B, 1, Q, S).
    """
    blank = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return blank.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def positions_of(mask: Tensor) -> Tensor:
    """The number of real tokens before each, (B, S) of a bool mask (B, S); padding has the last one's."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def without_gaps(mask: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Sequences whose padding, wherever it stood, comes last, and no more of it than the longest one needs.

    Args:
        mask: bool (B, S), whether a token is real.
        values: (B, S) each.

    Returns:
        The mask and the values, (B, L) each, with L real tokens in the longest sequence.
    """
    order = (~mask).int().argsort(dim=1, stable=True)[:, : int(mask.sum(dim=1).max())]
    return tuple(value.gather(1, order) for value in (mask, *values))
