"""The test functions at the places where they are known."""

import math

import pytest
import torch

from lit_modules.parts.test_functions import TEST_FUNCTIONS

MINIMA = {
    "quartic": [((9 - math.sqrt(33)) / 8,)],
    "quadratic": [(0.0, 0.0)],
    "rosenbrock": [(1.0, 1.0)],
    "himmelblau": [(3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)],
}
AT_START = {"quartic": 13.62276, "quadratic": 5.5, "rosenbrock": 24.2, "himmelblau": 170.0}


@pytest.mark.parametrize("name", TEST_FUNCTIONS)
def test_values_and_minima(name: str) -> None:
    function = TEST_FUNCTIONS[name]
    assert function.value(torch.tensor(function.start, dtype=torch.float64)).item() == pytest.approx(AT_START[name])
    for minimum in MINIMA[name]:
        theta = torch.tensor(minimum, dtype=torch.float64, requires_grad=True)
        value = function.value(theta)
        (gradient,) = torch.autograd.grad(value, theta)
        assert 0 <= value.item() < 1e-6
        assert gradient.norm().item() < 1e-4


def test_the_quartics_stationary_points() -> None:
    """The article's f'(x) = 4 x^3 - 21 x^2 + 30 x - 9."""
    for x in torch.linspace(-1, 5, 13, dtype=torch.float64):
        theta = x.reshape(1).requires_grad_()
        (gradient,) = torch.autograd.grad(TEST_FUNCTIONS["quartic"].value(theta), theta)
        assert gradient.item() == pytest.approx((4 * x**3 - 21 * x**2 + 30 * x - 9).item(), abs=1e-10)
