"""The loss of gated pointers and the spans that they mean."""

import pytest
import torch

from lit_modules.parts.pointers import decoded_spans, gated_cross_entropy


def test_the_loss_is_that_of_probabilities_times_the_gate() -> None:
    logits, gate = torch.randn(3, 6, requires_grad=True), torch.rand(3, 6) < 0.5
    valid = torch.arange(6) < torch.tensor([6, 4, 5])[:, None]
    targets = ((torch.rand(3, 6) < 0.5) & gate).float()
    p = logits.sigmoid() * gate
    each = -(targets * p.clamp(min=1e-30).log() + (1 - targets) * (1 - p).log())
    expected = (each * valid).sum() / 15
    loss = gated_cross_entropy(logits, targets, gate, valid)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_what_the_gate_closes_counts_nothing() -> None:
    nowhere, valid = torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    assert gated_cross_entropy(torch.randn(1, 3), torch.ones(1, 3), nowhere, valid) == 0
    assert gated_cross_entropy(torch.zeros(0, 3), torch.zeros(0, 3), nowhere[:0], valid[:0]) == 0


def test_each_start_takes_the_nearest_end() -> None:
    starts = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]]).bool()
    ends = torch.tensor([[1, 0, 0, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]).bool()
    assert decoded_spans(starts, ends) == [[(0, 1), (2, 5), (3, 5)], [], []]


def test_spans_beside_a_loop() -> None:
    starts, ends = torch.rand(20, 15) < 0.3, torch.rand(20, 15) < 0.3
    for text, spans in enumerate(decoded_spans(starts, ends)):
        expected = []
        for start in starts[text].nonzero().flatten().tolist():
            after = [end for end in ends[text].nonzero().flatten().tolist() if end >= start]
            expected += [(start, after[0] + 1)] if after else []
        assert spans == expected
