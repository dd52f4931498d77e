"""Functions of a few variables that optimizers are tried on; theta is a vector (d,), the value a scalar.

The quartic is article 3's. Rosenbrock 1960 ("An automatic method for finding the greatest or least value of a
function") and Himmelblau 1972 ("Applied nonlinear programming") are the usual ones; the bowl is a convex quadratic.
All have the minimum 0 (the quartic up to 5.5e-7), as the loss-guided flow wants it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TestFunction:
    """A function to minimize.

    Attributes:
        value: the function, (d,) to a scalar.
        start: where it is usually started from.
    """

    # Not a test, whatever pytest thinks of the name.
    __test__ = False

    value: Callable[[Tensor], Tensor]
    start: tuple[float, ...]


def quartic(theta: Tensor) -> Tensor:
    """x (x - 1) (x - 3)^2 + 1.62276: minima at (9 - sqrt 33)/8 = 0.40693 (value 5.5e-7) and at 3 (1.62276)."""
    (x,) = theta
    return x * (x - 1) * (x - 3) ** 2 + 1.62276


def quadratic(theta: Tensor) -> Tensor:
    """(x^2 + 10 y^2) / 2, a bowl with its minimum at 0."""
    x, y = theta
    return (x**2 + 10 * y**2) / 2


def rosenbrock(theta: Tensor) -> Tensor:
    """(1 - x)^2 + 100 (y - x^2)^2, a bent valley with its minimum at (1, 1)."""
    x, y = theta
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def himmelblau(theta: Tensor) -> Tensor:
    """(x^2 + y - 11)^2 + (x + y^2 - 7)^2, with four minima of value 0, one at (3, 2)."""
    x, y = theta
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


TEST_FUNCTIONS = {
    "quartic": TestFunction(quartic, (4.0,)),
    "quadratic": TestFunction(quadratic, (1.0, 1.0)),
    "rosenbrock": TestFunction(rosenbrock, (-1.2, 1.0)),
    "himmelblau": TestFunction(himmelblau, (0.0, 0.0)),
}
