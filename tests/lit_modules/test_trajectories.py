"""The exact trajectories: known solutions, and Euler's method against them, whose order is 1."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, Optimizer

from lit_modules.parts.flows import DampedFlow, GradientFlow, ScalarRMSprop, SignFlow
from lit_modules.parts.loss_guided import LossGuidedFlow
from lit_modules.parts.test_functions import TEST_FUNCTIONS, quadratic, quartic
from lit_modules.parts.trajectories import Trajectory, trajectory_of
from tests.lit_modules.test_flows import follow, point


def trajectory(function: str, flow: type[Optimizer], lr: float, **arguments: Any) -> Trajectory:
    start = point(*TEST_FUNCTIONS[function].start)
    found = trajectory_of(flow([start], lr=lr, **arguments), TEST_FUNCTIONS[function].value, start)
    assert found is not None
    return found


# ---- Known solutions ----


@pytest.mark.parametrize("flow", [GradientFlow, SGD])
def test_gradient_flow_on_a_bowl(flow: type[Optimizer]) -> None:
    found = trajectory("quadratic", flow, 0.01)
    for n in 0, 1, 100, 101, 300:
        assert found.at(n) == pytest.approx([math.exp(-0.01 * n), math.exp(-0.1 * n)], rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("minimum", [0.0, -2.0])
def test_loss_guided_flow_has_an_exponential_loss(minimum: float) -> None:
    found = trajectory("quadratic", LossGuidedFlow, 0.01, minimum=minimum)
    for n in 1, 50, 100:
        expected = minimum + (5.5 - minimum) * math.exp(-0.01 * n)
        assert quadratic(torch.from_numpy(found.at(n))).item() == pytest.approx(expected, rel=1e-6)


def test_damped_flow_is_a_damped_oscillator() -> None:
    friction = 0.6
    found = trajectory("quadratic", DampedFlow, 0.01, friction=friction)
    frequency = math.sqrt(1 - friction**2 / 4)
    for n in 1, 250, 800:
        t = 0.01 * n
        swing = math.cos(frequency * t) + friction / (2 * frequency) * math.sin(frequency * t)
        exact = math.exp(-friction * t / 2) * swing
        assert found.at(n)[0] == pytest.approx(exact, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("max_ratio", [None, 1000.0])
def test_loss_guided_flow_ends_at_a_local_minimum(max_ratio: float | None) -> None:
    """L(t) = L(0) exp(-t) reaches the value 1.62276 of the local minimum at t = log(13.62276 / 1.62276) = 2.1276."""
    found = trajectory("quartic", LossGuidedFlow, 0.01, max_ratio=max_ratio)
    assert quartic(torch.from_numpy(found.at(212))).item() == pytest.approx(13.62276 * math.exp(-2.12), rel=1e-6)
    assert found.at(212)[0] > 3.01
    for n in 213, 2500:
        assert found.at(n) == pytest.approx([3.0], abs=1e-6)


def test_it_ends_where_it_starts_at_a_minimum() -> None:
    start = point(0.0, 0.0)
    found = trajectory_of(LossGuidedFlow([start]), quadratic, start)
    assert found is not None
    assert found.at(1000).tolist() == [0, 0]


def test_how_far_it_is_asked_for_makes_no_difference() -> None:
    forward, at_once = (trajectory("rosenbrock", GradientFlow, 0.003) for _ in range(2))
    one_by_one = np.array([forward.at(n) for n in range(351)])
    assert at_once.at(350).tolist() == one_by_one[-1].tolist()
    assert at_once.at(120).tolist() == one_by_one[120].tolist()


def test_a_solver_that_gives_up_is_no_trajectory(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = SimpleNamespace(status=-1, message="Repeated convergence failures")
    monkeypatch.setattr("scipy.integrate.solve_ivp", lambda *_, **__: given_up)
    with pytest.raises(RuntimeError, match="the flow's trajectory can't be solved: Repeated"):
        trajectory("quadratic", GradientFlow, 0.01).at(50)


def test_others_have_none() -> None:
    theta = point(1.0, 1.0)
    momentum = SGD([theta], 0.1, momentum=0.9)
    for optimizer in SignFlow([theta]), ScalarRMSprop([theta]), momentum, torch.optim.Adam([theta]):
        assert trajectory_of(optimizer, quadratic, theta) is None


# ---- Euler's method ----


def euler_error(function: str, flow: type[Optimizer], time: float, lr: float) -> float:
    """The distance from the exact trajectory at a time."""
    theta, steps = point(*TEST_FUNCTIONS[function].start), round(time / lr)
    optimizer = flow([theta], lr=lr)
    found = trajectory_of(optimizer, TEST_FUNCTIONS[function].value, theta)
    follow(optimizer, lambda: TEST_FUNCTIONS[function].value(theta), steps)
    assert found is not None
    return float(np.linalg.norm(theta.detach().numpy() - found.at(steps)))


@pytest.mark.parametrize(
    ("function", "flow", "time", "lr"),
    [
        ("quadratic", GradientFlow, 1.0, 0.002),
        ("quadratic", LossGuidedFlow, 1.0, 0.01),
        ("quartic", GradientFlow, 0.1, 0.0005),
        ("quartic", LossGuidedFlow, 1.0, 0.01),
        ("himmelblau", GradientFlow, 0.02, 0.0002),
        ("himmelblau", LossGuidedFlow, 1.0, 0.01),
        # Leapfrog itself is of order 2; begun with the velocity 0 of t = 0 as that of half a step before, of order 1.
        ("quadratic", DampedFlow, 1.0, 0.01),
    ],
)
def test_the_order_of_convergence_is_1(function: str, flow: type[Optimizer], time: float, lr: float) -> None:
    errors = [euler_error(function, flow, time, lr / factor) for factor in (1, 2, 4)]
    orders = [math.log2(errors[0] / errors[1]), math.log2(errors[1] / errors[2])]
    assert orders == pytest.approx([1, 1], abs=0.05)
