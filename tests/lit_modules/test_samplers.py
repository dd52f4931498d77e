"""The fitted mixture draws what it was fitted to."""

import pytest
import torch

from lit_modules.parts.samplers import CodeSampler


def test_unfitted_is_standard_normal() -> None:
    z = CodeSampler(3, 4)(20_000)
    assert torch.allclose(z.mean(dim=0), torch.zeros(3), atol=0.03)
    assert torch.allclose(z.T.cov(), torch.eye(3), atol=0.05)


def test_two_clusters() -> None:
    """Weights 1/4 and 3/4, means and covariances are found and drawn again."""
    near = torch.randn(1000, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.2]]) + 10
    far = 0.1 * torch.randn(3000, 2) - 10
    sampler = CodeSampler(2, 2)
    sampler.fit(torch.cat([near, far]))
    z = sampler(20_000)
    found = z[z[:, 0] > 0]
    assert len(found) / 20_000 == pytest.approx(0.25, abs=0.01)
    assert torch.allclose(found.mean(dim=0), near.mean(dim=0), atol=0.05)
    assert torch.allclose(found.T.cov(), near.T.cov(), atol=0.05)
    assert torch.allclose(z[z[:, 0] < 0].T.cov(), far.T.cov(), atol=0.005)


def test_fitting_is_repeatable() -> None:
    codes = torch.randn(200, 3)
    samplers = CodeSampler(3, 5), CodeSampler(3, 5)
    for sampler in samplers:
        torch.randn(7)
        sampler.fit(codes)
    assert all(torch.equal(a, b) for a, b in zip(samplers[0].buffers(), samplers[1].buffers(), strict=True))


def test_too_few_codes() -> None:
    with pytest.raises(ValueError, match="3 codes are too few for 5 components"):
        CodeSampler(2, 5).fit(torch.randn(3, 2))
