"""The codes' batch norm and distances from N(0, I), against torch and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from lit_modules.parts.codes import CodeNorm, kl_to_normal, mmd_to_normal


def test_code_norm_is_batch_norm() -> None:
    """In training, in evaluation, and in its running averages."""
    ours, theirs = CodeNorm(3), nn.BatchNorm1d(3, affine=False)
    for _ in range(3):
        x = 5 * torch.randn(16, 3) + 2
        z = ours(x)
        assert torch.allclose(z, theirs(x), atol=1e-5)
        assert torch.allclose(z.mean(dim=0), torch.zeros(3), atol=1e-6)
    assert torch.allclose(ours.running_mean, theirs.running_mean)
    assert torch.allclose(ours.running_var, theirs.running_var)
    x = torch.randn(4, 3)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-6)


def test_code_norm_takes_statistics() -> None:
    """Of the codes as they are, also where the mean is 1,000 times the deviation."""
    norm, x = CodeNorm(2), torch.randn(500, 2) + 1000
    norm.take_statistics(x)
    assert norm.running_mean == pytest.approx(x.double().mean(dim=0))
    assert norm.running_var == pytest.approx(x.double().var(dim=0, correction=0))
    z = norm.eval()(x)
    assert z.var(dim=0, correction=0) == pytest.approx([1, 1], rel=1e-3)


def test_code_norm_s_gradient() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CodeNorm(2), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_code_norm_in_half_precision(dtype: torch.dtype) -> None:
    """Values whose squares overflow float16."""
    z = CodeNorm(2)((1000 * torch.randn(64, 2)).to(dtype))
    assert z.dtype == dtype
    assert z.float().var(dim=0, correction=0) == pytest.approx([1, 1], abs=0.05)


def test_kl() -> None:
    mean, log_var = torch.randn(5, 3), torch.randn(5, 3)
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    assert torch.allclose(kl_to_normal(mean, log_var), expected, atol=1e-5)


def test_mmd_by_hand() -> None:
    """One dimension, two points each: within x 2 pairs, within y 2 pairs, across 4 pairs."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [5.0]])

    def kernel(distance: float) -> float:
        return sum(2 * s / (2 * s + distance**2) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    expected = kernel(1) + kernel(2) - (kernel(3) + kernel(5) + kernel(2) + kernel(4)) / 2
    assert mmd_to_normal(x, y).item() == pytest.approx(expected, abs=1e-5)


def test_mmd_under_autocast_is_what_it_is_without() -> None:
    torch.manual_seed(0)
    x, y = 10 + torch.randn(64, 4), torch.randn(64, 4)
    exact = mmd_to_normal(x.double(), y.double()).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert mmd_to_normal(x, y).item() == pytest.approx(exact, abs=1e-5)


def test_mmd_of_equal_and_of_other_distributions() -> None:
    """Unbiased: around 0 for equal ones, of either sign."""
    values = [mmd_to_normal(torch.randn(64, 4), torch.randn(64, 4)).item() for _ in range(100)]
    assert abs(sum(values) / 100) < 3 * torch.tensor(values).std().item() / math.sqrt(100)
    assert mmd_to_normal(torch.randn(64, 4) + 1, torch.randn(64, 4)) > 5 * max(values)
