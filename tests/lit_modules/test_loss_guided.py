"""LossGuidedFlow: L(t) = L(0) exp(-t), the article's experiment, and that its loss is the one of its gradient."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from lit_modules.parts.flows import GradientFlow
from lit_modules.parts.loss_guided import LossGuidedFlow
from lit_modules.parts.test_functions import quartic
from tests.lit_modules.test_flows import bowl, follow, point

# ---- Known answers ----


def test_the_loss_of_a_bowl_falls_by_the_same_factor_at_each_step() -> None:
    """For |theta|^2 / 2 theta' = -theta / 2: L_n = L_0 (1 - h/2)^(2n)."""
    theta = point(3.0, 4.0)
    losses = follow(LossGuidedFlow([theta], 0.1), lambda: theta.square().sum() / 2, 30)
    assert losses == pytest.approx([12.5 * 0.95 ** (2 * n) for n in range(31)], rel=1e-12)


def error_at(time: float, step: float) -> float:
    """How far L(t) / L(0) is from exp(-t) on a convex quadratic."""
    theta = point(1.0, 1.0)
    losses = follow(LossGuidedFlow([theta], step), lambda: bowl(theta), round(time / step))
    return losses[-1] / losses[0] / math.exp(-time) - 1


@pytest.mark.parametrize("time", [1.0, 3.0, 5.0])
def test_the_loss_falls_exponentially_within_eulers_error(time: float) -> None:
    errors = [error_at(time, step) for step in (0.02, 0.01, 0.005)]
    assert abs(errors[1]) < 0.02
    # Euler's method is of order 1: half the step, half the error.
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.05)


def experiment(optimizer: torch.optim.Optimizer, theta: nn.Parameter) -> list[float]:
    return follow(optimizer, lambda: quartic(theta), 2500)


def test_the_articles_experiment() -> None:
    x = point(4.0)
    experiment(LossGuidedFlow([x], 0.01, max_ratio=1000), x)
    assert abs(x.item() - 0.41) < 0.05
    x = point(4.0)
    experiment(GradientFlow([x], 0.01), x)
    assert abs(x.item() - 3) < 0.05


def test_it_is_the_formula() -> None:
    """As long as rounding has not grown: until it reaches the local minimum at step 212."""
    theta, x = point(4.0), 4.0
    optimizer = LossGuidedFlow([theta], 0.01, max_ratio=0.05)
    for _ in range(200):
        follow(optimizer, lambda: quartic(theta), 1)
        loss, gradient = x * (x - 1) * (x - 3) ** 2 + 1.62276, 4 * x**3 - 21 * x**2 + 30 * x - 9
        x -= 0.01 * gradient / abs(gradient) * loss * min(1 / abs(gradient), 0.05)
        assert theta.item() == pytest.approx(x, rel=1e-9)


def test_truncation_bounds_the_step() -> None:
    theta = point(3.0 + 1e-6)
    follow(LossGuidedFlow([theta], 0.01, max_ratio=10), lambda: quartic(theta), 1)
    assert abs(theta.item() - 3) == pytest.approx(0.01 * 1.62276 * 10, rel=1e-3)


def test_another_minimum() -> None:
    theta = point(3.0, 4.0)
    optimizer = LossGuidedFlow([theta], 0.1, minimum=-2.0)
    losses = follow(optimizer, lambda: theta.square().sum() / 2 - 2, 30)
    assert losses[-1] == pytest.approx(-2 + 12.5 * 0.95**60, rel=1e-9)


def test_the_norm_is_that_of_all_groups() -> None:
    first, second = point(3.0), point(4.0)
    optimizer = LossGuidedFlow([{"params": [first]}, {"params": [second], "lr": 0.0}], 0.1)
    follow(optimizer, lambda: (first.square() + second.square()).sum() / 2, 1)
    assert (first.item(), second.item()) == (pytest.approx(3 - 0.1 * 12.5 * 3 / 25), 4.0)
    with pytest.raises(ValueError, match="max_ratio is one for all parameters, no group has its own"):
        optimizer.add_param_group({"params": [point(1.0)], "max_ratio": 5})


# ---- Where it can't step ----


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_no_step(factor: float) -> None:
    theta = point(1.0, 2.0)
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) .* no step taken"):
        follow(LossGuidedFlow([theta]), lambda: bowl(theta) * factor, 1)
    assert theta.tolist() == [1, 2]


def test_an_infinite_step_is_not_taken() -> None:
    theta = point(1e-200)
    with pytest.raises(FloatingPointError, match=r"the step is infinite .* set max_ratio"):
        follow(LossGuidedFlow([theta]), lambda: theta.square().sum() / 2 + 1, 1)
    assert theta.item() == 1e-200


def test_where_the_gradient_is_zero_it_stays() -> None:
    theta = point(0.0, 0.0)
    assert follow(LossGuidedFlow([theta]), lambda: bowl(theta) + 1, 2) == [1, 1, 1]
    assert theta.tolist() == [0, 0]


def test_a_loss_below_the_minimum_is_refused() -> None:
    theta = point(1.0)
    with pytest.raises(ValueError, match=r"the loss is -2\.5, below minimum=0\.0: set a minimum"):
        follow(LossGuidedFlow([theta]), lambda: theta.square().sum() / 2 - 3, 1)
    assert theta.item() == 1


# ---- The closure ----


def test_the_loss_is_needed() -> None:
    theta = point(1.0)
    optimizer = LossGuidedFlow([theta])
    theta.square().sum().backward()
    with pytest.raises(ValueError, match=r"LossGuidedFlow needs the loss: call step\(closure\)"):
        optimizer.step()
    with pytest.raises(ValueError, match="LossGuidedFlow needs the loss"):
        optimizer.step(lambda: None)


def loss_on(theta: Tensor) -> Tensor:
    loss = bowl(theta)
    loss.backward()
    return loss


def test_backward_before_the_step_and_a_closure_that_only_returns() -> None:
    one, other = point(1.0, 1.0), point(1.0, 1.0)
    follow(LossGuidedFlow([one], 0.1), lambda: bowl(one), 3)
    optimizer = LossGuidedFlow([other], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_on(other)
        optimizer.step(lambda loss=loss: loss)
    assert torch.equal(one, other)


def test_a_part_of_the_loss_is_refused() -> None:
    theta = point(1.0, 1.0)
    optimizer = LossGuidedFlow([theta], 0.1)
    loss_on(theta)
    with pytest.raises(ValueError, match=r"only a part of it, as with accumulate_grad_batches: use larger batches"):
        optimizer.step(lambda: loss_on(theta))
    assert theta.tolist() == [1, 1]
    # Copies and loaded ones watch too, and so do groups that come later.
    for flow in copy.deepcopy(optimizer), LossGuidedFlow([point(1.0)]):
        flow.load_state_dict(flow.state_dict())
        added = point(1.0, 1.0)
        flow.add_param_group({"params": [added]})
        for watched in flow.param_groups[0]["params"][0], added:
            watched.sum().backward()
            with pytest.raises(ValueError, match="only a part"):
                flow.step(lambda watched=watched: watched.sum().backward())


def test_gradients_that_are_zeroed_in_the_closure_don_t_matter() -> None:
    theta = point(3.0, 4.0)
    optimizer = LossGuidedFlow([theta], 0.1)
    loss_on(theta)
    losses = follow(optimizer, lambda: theta.square().sum() / 2, 1)
    assert losses == pytest.approx([12.5, 12.5 * 0.95**2])


def test_a_forgotten_optimizer_leaves_the_parameters_alone() -> None:
    theta = point(1.0, 1.0)
    LossGuidedFlow([theta])
    loss_on(theta)
    assert copy.deepcopy(theta).tolist() == [1, 1]
