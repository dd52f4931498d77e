"""Attention and pooling beside loops over their definitions."""

import torch

from lit_modules.parts.cross_attention import CrossAttention, masked_max, masked_mean


def test_attention_by_its_formula() -> None:
    """softmax(q k / sqrt(d)) v of each head, over what is no padding."""
    attention = CrossAttention(6, heads=2, head_dim=3)
    x, over = torch.randn(2, 4, 6), torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    attended = attention(x, over, mask)
    assert attended.shape == (2, 4, 6)
    for row in range(2):
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            q = x[row] @ attention.query.weight[part].T
            k, v = (over[row][mask[row]] @ layer.weight[part].T for layer in (attention.key, attention.value))
            expected = torch.softmax(q @ k.T / 3**0.5, dim=1) @ v
            torch.testing.assert_close(attended[row, :, part], expected)


def test_article_s_size() -> None:
    attention = CrossAttention(128, heads=8, head_dim=16)
    assert [tuple(p.shape) for p in attention.parameters()] == [(128, 128)] * 3


def test_pooling_leaves_padding_out() -> None:
    x = torch.tensor([[[-3.0, 1.0], [-1.0, -2.0], [9.0, 9.0]]])
    assert masked_max(x, torch.tensor([[True, True, False]])).tolist() == [[-1, 1]]
    assert masked_mean(x, torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [[-2, -0.5]]


def test_nothing_is_read_from_an_empty_sequence() -> None:
    """0, and gradients that are numbers: in place of the least float32, which turned a training to NaN."""
    attention = CrossAttention(6, heads=2, head_dim=3)
    x, over = torch.randn(2, 4, 6, requires_grad=True), torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [False] * 5])
    attended, largest = attention(x, over, mask), masked_max(x, mask[:, :4])
    assert not attended[1].any()
    assert not largest[1].any()
    assert attended[0].all()
    (attended.sum() + largest.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
