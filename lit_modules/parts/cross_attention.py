"""Attention of one padded sequence over another, and what is made of a sequence as a whole."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class CrossAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2) without a projection of what comes out.

    Args:
        width: numbers at each position of both sequences.
        heads: number of heads.
        head_dim: numbers of a head.
    """

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, heads * head_dim, bias=False) for _ in range(3))

    def forward(self, x: Tensor, over: Tensor, mask: Tensor) -> Tensor:
        """What each position of one sequence takes from another one.

        Args:
            x: (R, L, width), the one.
            over: (R, M, width), the other one.
            mask: (R, M) bool, false where ``over`` is padding; where all of it is, there is nothing to take: 0.

        Returns:
            (R, L, heads * head_dim).
        """
        empty = ~mask.any(dim=1)
        q, k, v = self.query(x), self.key(over), self.value(over)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        # Not every kernel knows what a softmax over nothing is.
        visible = mask | empty[:, None]
        attended = scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None, :])
        return attended.transpose(1, 2).flatten(2).masked_fill(empty[:, None, None], 0)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """The largest values (R, width) over the positions of x (R, L, width) at which mask (R, L) is true; 0 over none."""
    largest = x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min).amax(dim=1)
    return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0)


def masked_mean(x: Tensor, weights: Tensor) -> Tensor:
    """The mean (R, width) over positions of x (R, L, width) with weights (R, L), not all 0 in any row."""
    weights = weights.to(x.dtype)
    return torch.einsum("rl,rlw->rw", weights, x) / weights.sum(dim=1, keepdim=True)
