"""The flows of article 3 as optimizers: known answers, parameter groups, states, and what they refuse."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lit_modules.parts.flows import DampedFlow, GradientFlow, ScalarRMSprop, SignFlow
from lit_modules.parts.loss_guided import LossGuidedFlow

FLOWS: list[type[Optimizer]] = [DampedFlow, GradientFlow, LossGuidedFlow, ScalarRMSprop, SignFlow]
CURVATURES = torch.tensor([1.0, 10.0], dtype=torch.float64)


def bowl(theta: Tensor) -> Tensor:
    """A convex quadratic with its minimum 0 at 0."""
    return (CURVATURES * theta**2).sum() / 2


def point(*start: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(start, dtype=torch.float64))


def follow(optimizer: Optimizer, loss_of: Callable[[], Tensor], steps: int) -> list[float]:
    """The losses before each step and after the last one."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    return [*(optimizer.step(closure).item() for _ in range(steps)), loss_of().item()]


# ---- Known answers ----


def test_gradient_flow_is_sgd() -> None:
    ours, theirs = point(1.0, 1.0), point(1.0, 1.0)
    assert follow(GradientFlow([ours], 0.05), lambda: bowl(ours), 20) == follow(
        SGD([theirs], 0.05), lambda: bowl(theirs), 20
    )
    assert torch.equal(ours, theirs)


def test_gradient_flow_on_a_bowl_is_a_geometric_sequence() -> None:
    theta = point(1.0, 1.0)
    follow(GradientFlow([theta], 0.05), lambda: bowl(theta), 20)
    assert theta.tolist() == pytest.approx([0.95**20, 0.5**20], rel=1e-12)


def test_sign_flow_moves_each_component_by_the_step_size() -> None:
    theta = point(1.0, -3.0)
    follow(SignFlow([theta], 0.25), lambda: bowl(theta), 3)
    assert theta.tolist() == [0.25, -2.25]


@pytest.mark.parametrize("lr", [0.03, 0.003])
def test_sign_flow_never_converges(lr: float) -> None:
    theta = point(1.0, -0.7)
    optimizer = SignFlow([theta], lr)
    follow(optimizer, lambda: bowl(theta), round(2 / lr))
    amplitudes = []
    for _ in range(100):
        follow(optimizer, lambda: bowl(theta), 1)
        amplitudes.append(theta.abs().max().item())
    assert 0.3 * lr < max(amplitudes) <= lr * (1 + 1e-9)
    # A cycle of two points, for ever: theta and theta -+ lr.
    assert amplitudes[-1] == pytest.approx(amplitudes[1], rel=1e-6)


def test_scalar_rmsprop_by_hand() -> None:
    theta = point(3.0, 4.0)
    optimizer = ScalarRMSprop([theta], lr=0.1, alpha=0.9, eps=1e-3)
    # |g|^2 of |theta|^2 / 2 is |theta|^2.
    follow(optimizer, lambda: theta.square().sum() / 2, 2)
    radius, mean_square = 5.0, 0.0
    for _ in range(2):
        mean_square = 0.9 * mean_square + 0.1 * radius**2
        radius *= 1 - 0.1 / math.sqrt(mean_square + 1e-3)
    assert theta.tolist() == pytest.approx([0.6 * radius, 0.8 * radius], rel=1e-12)


def test_scalar_rmsprop_keeps_the_direction_of_the_gradient() -> None:
    theta, other = point(1.0, 1.0), point(2.0, 0.5)
    optimizer = ScalarRMSprop([{"params": [theta]}, {"params": [other]}], 0.1)
    before = torch.cat([theta, other]).detach()
    follow(optimizer, lambda: bowl(theta) + bowl(other), 1)
    moved, gradient = torch.cat([theta, other]).detach() - before, torch.cat([CURVATURES, CURVATURES]) * before
    assert torch.cosine_similarity(moved, -gradient, dim=0).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("lr", "friction"), [(0.1, 1.0), (0.3, 0.2), (0.05, 10.0)])
def test_damped_flow_is_sgd_with_momentum(lr: float, friction: float) -> None:
    half = friction * lr / 2
    ours, theirs = point(1.0, 1.0), point(1.0, 1.0)
    follow(DampedFlow([ours], lr, friction), lambda: bowl(ours), 50)
    sgd = SGD([theirs], lr**2 / (1 + half), momentum=(1 - half) / (1 + half))
    follow(sgd, lambda: bowl(theirs), 50)
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-10, abs=1e-13)


def test_damped_flow_keeps_its_trajectory_when_the_step_size_changes() -> None:
    """Halved at t = 1, it arrives at t = 3 where an oscillator does; SGD with a halved lr is somewhere else."""
    theta = point(1.0, 0.0)
    optimizer = DampedFlow([theta], 0.01, friction=1.0)
    follow(optimizer, lambda: bowl(theta), 100)
    optimizer.param_groups[0]["lr"] = 0.005
    follow(optimizer, lambda: bowl(theta), 400)
    frequency = math.sqrt(0.75)
    exact = math.exp(-1.5) * (math.cos(3 * frequency) + math.sin(3 * frequency) / (2 * frequency))
    # Started with zero velocity half a step late, it is of first order.
    assert theta[0].item() == pytest.approx(exact, abs=0.01)


def test_groups_have_their_own_step_sizes() -> None:
    fast, slow = point(1.0, 1.0), point(1.0, 1.0)
    optimizer = GradientFlow([{"params": [fast], "lr": 0.05}, {"params": [slow]}], 0.025)
    follow(optimizer, lambda: bowl(fast) + bowl(slow), 1)
    assert (fast.tolist(), slow.tolist()) == ([0.95, 0.5], [0.975, 0.75])


# ---- What all of them do ----


def network_loss(network: nn.Module) -> Tensor:
    x = torch.linspace(-1, 1, 24).view(8, 3)
    return (network(x) - x.sum(dim=1, keepdim=True)).square().mean()


@pytest.mark.parametrize("flow", FLOWS)
def test_it_trains_a_network(flow: type[Optimizer]) -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    losses = follow(flow(network.parameters(), lr=0.02), lambda: network_loss(network), 100)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("flow", FLOWS)
def test_state_is_complete(flow: type[Optimizer], dtype: torch.dtype) -> None:
    """Loaded into another optimizer it goes on to the last bit."""
    first = nn.Linear(3, 1).to(dtype)
    optimizer = flow(first.parameters(), lr=0.01)
    follow(optimizer, lambda: network_loss_in(dtype, first), 3)
    second = copy.deepcopy(first)
    loaded = flow(second.parameters(), lr=0.5)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    follow(optimizer, lambda: network_loss_in(dtype, first), 3)
    follow(loaded, lambda: network_loss_in(dtype, second), 3)
    assert torch.equal(first.weight, second.weight)


def network_loss_in(dtype: torch.dtype, network: nn.Module) -> Tensor:
    x = torch.linspace(-1, 1, 24, dtype=dtype).view(8, 3)
    return network(x).square().mean()


@pytest.mark.parametrize("flow", FLOWS)
def test_parameters_without_gradient_stay(flow: type[Optimizer]) -> None:
    used, unused, frozen = point(1.0, 1.0), point(1.0, 1.0), point(1.0, 1.0).requires_grad_(False)
    follow(flow([used, unused, frozen], lr=0.1), lambda: bowl(used), 2)
    assert unused.tolist() == frozen.tolist() == [1, 1]
    assert used.tolist() != [1, 1]
    nothing = flow([unused], lr=0.1)
    assert nothing.step(lambda: None) is None


@pytest.mark.parametrize("flow", FLOWS)
def test_complex_parameters_and_sparse_gradients_are_refused(flow: type[Optimizer]) -> None:
    with pytest.raises(ValueError, match=f"{flow.__name__} takes no complex parameters: view them as real"):
        flow([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    embedding = nn.Embedding(3, 2, sparse=True)
    with pytest.raises(ValueError, match=f"{flow.__name__} takes no sparse gradients: set sparse=False"):
        follow(flow(embedding.parameters(), lr=0.1), lambda: embedding(torch.tensor([0])).square().sum(), 1)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_impossible_step_sizes_are_refused(flow: type[Optimizer], lr: float) -> None:
    with pytest.raises(ValueError, match=f"{flow.__name__}: lr=.* must be a number from 0 on"):
        flow([point(1.0)], lr=lr)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha=1 must be in"):
        ScalarRMSprop([point(1.0)], alpha=1)
    with pytest.raises(ValueError, match="eps=0 must be positive"):
        ScalarRMSprop([point(1.0)], eps=0)
    with pytest.raises(ValueError, match="friction=-1 must be positive"):
        DampedFlow([point(1.0)], friction=-1)
    with pytest.raises(ValueError, match="max_ratio=0 must be positive"):
        LossGuidedFlow([point(1.0)], max_ratio=0)
    with pytest.raises(ValueError, match="alpha is one for all parameters"):
        ScalarRMSprop([{"params": [point(1.0)]}, {"params": [point(1.0)], "alpha": 0.5}])
