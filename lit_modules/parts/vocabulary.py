"""A part of a pretrained network's vocabulary: some rows of its matrices, the rest dropped.

Source: article 8, which drops the tokens that its tokenizer no longer makes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def check_rows(kept: Sequence[int], rows: int) -> None:
    """See that rows can be taken of a vocabulary.

    Args:
        kept: numbers of the rows in their new order.
        rows: how many there are.

    Raises:
        ValueError: none are kept, one is kept twice, or one isn't there.
    """
    if not kept:
        raise ValueError("kept=[] leaves no token")
    if len(set(kept)) < len(kept):
        raise ValueError("kept has a token twice")
    outside = next((row for row in kept if not 0 <= row < rows), None)
    if outside is not None:
        raise ValueError(f"kept has token {outside}, the network's vocabulary has {rows}: was it made for another one?")


def rows_of(table: Tensor, kept: Sequence[int]) -> nn.Parameter:
    """Those rows of a table (V, ...) as a parameter of its own, (K, ...)."""
    return nn.Parameter(table.detach()[torch.tensor(kept, device=table.device)].clone())


def embedding_of(embedding: nn.Embedding, kept: Sequence[int]) -> nn.Embedding:
    """An embedding of those tokens, its first row for padding if the given one had one."""
    padding = None if embedding.padding_idx is None else 0
    smaller = nn.Embedding(len(kept), embedding.embedding_dim, padding_idx=padding)
    smaller.weight = rows_of(embedding.weight, kept)
    return smaller
