"""Penalties against closed forms on linear and quadratic critics."""

import pytest
import torch
from torch import Tensor, nn

from lit_modules.parts.penalties import Penalties, gradient_penalty, squared_gradient_norms, zero_centered_penalty

REAL, FAKE = torch.randn(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
EPSILON = torch.linspace(0, 1, 6)


class Linear(nn.Module):
    """T(x) = w . x with ||w||^2 = 48 * 0.25 = 12: the gradient is w everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((48,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w


def test_linear_critic() -> None:
    critic = Linear()
    # Sums over pixels, so 12 and not 12/48.
    assert torch.allclose(squared_gradient_norms(critic, REAL), torch.full((6,), 12.0))
    r1 = zero_centered_penalty(critic, REAL)
    assert r1.item() == pytest.approx(6.0)
    # d(|w|^2 / 2)/dw = w
    assert torch.allclose(torch.autograd.grad(r1, critic.w)[0], critic.w)
    gp = gradient_penalty(critic, REAL, FAKE, EPSILON)
    assert gp.item() == pytest.approx((12**0.5 - 1) ** 2, rel=1e-5)
    # d(|w| - 1)^2/dw = 2 (|w| - 1) w/|w|
    expected = 2 * (12**0.5 - 1) * critic.w / 12**0.5
    assert torch.allclose(torch.autograd.grad(gp, critic.w)[0], expected, rtol=1e-5)


def test_gp_is_two_sided_and_finite_at_zero() -> None:
    critic = Linear()
    with torch.no_grad():
        critic.w.zero_()
    gp = gradient_penalty(critic, REAL, FAKE, EPSILON)
    assert gp.item() == pytest.approx(1.0, abs=1e-5)
    assert torch.autograd.grad(gp, critic.w)[0].isfinite().all()


def test_gp_mixes_by_epsilon() -> None:
    # T(x) = |x|^2 / 2 has the gradient x, so norms tell where the penalty was taken.
    def critic(x: Tensor) -> Tensor:
        return x.flatten(1).square().sum(1) / 2

    mixed = EPSILON.view(6, 1, 1, 1) * REAL + (1 - EPSILON.view(6, 1, 1, 1)) * FAKE
    expected = (mixed.flatten(1).norm(dim=1) - 1).square().mean()
    assert gradient_penalty(critic, REAL, FAKE, EPSILON).item() == pytest.approx(expected.item(), rel=1e-5)
    assert zero_centered_penalty(critic, FAKE).item() == pytest.approx(
        FAKE.flatten(1).square().sum(1).mean().item() / 2, rel=1e-5
    )


def test_inputs_are_detached() -> None:
    fake = FAKE.clone().requires_grad_()
    total = Penalties(gp=1, r1=1, r2=1)(Linear(), REAL, fake, EPSILON)
    assert torch.autograd.grad(total, fake, allow_unused=True) == (None,)


def test_float32_under_autocast() -> None:
    critic = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1))
    expected = squared_gradient_norms(critic, REAL)
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(REAL).dtype == torch.bfloat16
        assert torch.equal(squared_gradient_norms(critic, REAL), expected)


def test_strengths_add_up() -> None:
    critic, gp = Linear(), (12**0.5 - 1) ** 2
    assert Penalties(gp=10)(critic, REAL, FAKE, EPSILON).item() == pytest.approx(10 * gp, rel=1e-5)
    assert Penalties(r1=3)(critic, REAL, FAKE, EPSILON).item() == pytest.approx(18, rel=1e-5)
    assert Penalties(r2=2)(critic, REAL, FAKE, EPSILON).item() == pytest.approx(12, rel=1e-5)
    every = Penalties(gp=10, r1=3, r2=2, interval=4)
    assert every(critic, REAL, FAKE, EPSILON).item() == pytest.approx(10 * gp + 30, rel=1e-5)


def test_lazy_interval() -> None:
    assert [Penalties(r1=1, interval=3).due(i) for i in range(5)] == [True, False, False, True, False]
    assert not Penalties().due(0)
    with pytest.raises(ValueError, match="penalty_interval=0"):
        Penalties(interval=0)
    with pytest.raises(ValueError, match="r1_weight=-1"):
        Penalties(r1=-1)
