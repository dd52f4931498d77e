"""A part of a vocabulary."""

import pytest
import torch
from torch import nn

from lit_modules.parts.vocabulary import check_rows, embedding_of, rows_of


def test_rows_are_taken_in_the_new_order() -> None:
    table = nn.Parameter(torch.arange(8.0).view(4, 2))
    taken = rows_of(table, [3, 0])
    assert taken.tolist() == [[6, 7], [0, 1]]
    assert taken.requires_grad
    taken.data.zero_()
    assert table[3].tolist() == [6, 7]


@pytest.mark.parametrize("padding", [None, 1])
def test_an_embedding_keeps_having_padding(padding: int | None) -> None:
    embedding = nn.Embedding(4, 2, padding_idx=padding)
    smaller = embedding_of(embedding, [1, 3])
    assert smaller.padding_idx == (None if padding is None else 0)
    assert torch.equal(smaller(torch.tensor([0, 1])), embedding(torch.tensor([1, 3])))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([], "leaves no token"),
        ([0, 2, 0], "has a token twice"),
        ([0, 4], r"has token 4, the network's vocabulary has 4: was it made for another one\?"),
        ([-1], "has token -1"),
    ],
)
def test_rows_that_are_not_there(kept: list[int], message: str) -> None:
    check_rows([3, 0], 4)
    with pytest.raises(ValueError, match=message):
        check_rows(kept, 4)
