"""OptimizationFlow: what it logs is what it says, on test functions and on networks."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lit_modules import OptimizationFlow
from lit_modules.parts.test_functions import TEST_FUNCTIONS
from tests.lit_modules.test_flows import FLOWS

NAMES = {"train/loss", "train/grad_norm", "train/dloss_dt", "train/dloss_dt_predicted"}


class Steps:
    """So many batches."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Any:
        return iter(torch.arange(self.number))


class Points(OptimizationFlow):
    """Keeps what it measured at each step."""

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.points = [*getattr(self, "points", []), self.flow_point()]


def followed(trainer: Callable[..., Trainer], steps: int, **arguments: Any) -> Points:
    module = Points(**arguments)
    trainer(max_epochs=1).fit(module, Steps(steps))
    return module


# ---- Test functions ----


@pytest.mark.parametrize("function", TEST_FUNCTIONS)
@pytest.mark.parametrize("flow", [flow.__name__ for flow in FLOWS])
def test_prediction_and_measurement_agree_for_small_steps(
    trainer: Callable[..., Trainer], function: str, flow: str
) -> None:
    h = 1e-6
    point = followed(trainer, 1, function=function, optimizer=flow, learning_rate=h).points[0]
    theta = torch.tensor(TEST_FUNCTIONS[function].start, dtype=torch.float64, requires_grad=True)
    loss = TEST_FUNCTIONS[function].value(theta)
    (gradient,) = torch.autograd.grad(loss, theta)
    norm = gradient.norm().item()
    known = {
        "GradientFlow": -(norm**2),
        "SignFlow": -gradient.abs().sum().item(),
        "LossGuidedFlow": -loss.item(),
        # G is a hundredth of |g|^2 at first.
        "ScalarRMSprop": -10 * norm,
        # At rest half a step ago: theta' is -h g.
        "DampedFlow": -h * norm**2,
    }
    assert point["loss"] == pytest.approx(loss.item())
    assert point["grad_norm"] == pytest.approx(norm)
    assert point["dloss_dt_predicted"] == pytest.approx(known[flow], rel=1e-5)
    assert point["dloss_dt"] == pytest.approx(known[flow], rel=5e-2 if flow == "DampedFlow" else 2e-2)


def test_the_difference_halves_with_the_step(trainer: Callable[..., Trainer]) -> None:
    gaps = []
    for h in 0.002, 0.001:
        point = followed(trainer, 1, function="himmelblau", start=[1, 1], learning_rate=h).points[0]
        gaps.append(point["dloss_dt"] - point["dloss_dt_predicted"])
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1)


def test_distance_from_the_trajectory(trainer: Callable[..., Trainer]) -> None:
    """On a bowl Euler's method has theta_n = (1 - h k)^n, the flow exp(-n h k)."""
    points = followed(trainer, 50, function="quadratic", learning_rate=0.02).points
    assert [point["step"] for point in points] == list(range(50))
    for n in 0, 10, 49:
        exact = [math.exp(-0.02 * n), math.exp(-0.2 * n)]
        assert points[n]["time"] == pytest.approx(0.02 * n)
        assert points[n]["theta"] == pytest.approx([0.98**n, 0.8**n])
        assert points[n]["ode_theta"] == pytest.approx(exact, abs=1e-7)
        assert points[n]["ode_loss"] == pytest.approx((exact[0] ** 2 + 10 * exact[1] ** 2) / 2, abs=1e-7)
        distance = math.dist([0.98**n, 0.8**n], exact)
        assert points[n]["ode_distance"] == pytest.approx(distance, abs=1e-7)


def test_others_have_no_trajectory(trainer: Callable[..., Trainer]) -> None:
    assert "ode_distance" not in followed(trainer, 2, function="quadratic", optimizer="Adam").points[-1]


def test_it_logs_what_it_measures(trainer: Callable[..., Trainer]) -> None:
    module = OptimizationFlow("quadratic", optimizer="SignFlow", learning_rate=0.125)
    made = trainer(max_epochs=1)
    made.fit(module, Steps(1), Steps(1))
    logged = {name: value.item() for name, value in made.callback_metrics.items()}
    assert logged == pytest.approx(
        {
            "train/loss": 5.5,
            "train/grad_norm": math.sqrt(101),
            "train/dloss_dt": (11 * 0.875**2 / 2 - 5.5) / 0.125,
            "train/dloss_dt_predicted": -11.0,
            "val/loss": 11 * 0.875**2 / 2,
            "val/theta_0": 0.875,
            "val/theta_1": 0.875,
        }
    )


def test_the_articles_experiment(trainer: Callable[..., Trainer]) -> None:
    ends = {}
    for flow, arguments in {"LossGuidedFlow": {"max_ratio": 1000}, "GradientFlow": {}}.items():
        module = OptimizationFlow(optimizer=flow, optimizer_args=arguments, learning_rate=0.01)
        trainer(max_epochs=1).fit(module, Steps(2500))
        ends[flow] = module.theta.item()
    assert abs(ends["LossGuidedFlow"] - 0.41) < 0.05
    assert abs(ends["GradientFlow"] - 3) < 0.05


@pytest.mark.parametrize("optimizer", ["GradientFlow", "LBFGS"])
def test_the_loss_before_the_step_is_logged(trainer: Callable[..., Trainer], optimizer: str) -> None:
    """Also by an optimizer that evaluates it several times in a step."""
    points = followed(trainer, 2, function="quadratic", optimizer=optimizer, learning_rate=0.1).points
    assert points[0]["loss"] == 5.5
    assert points[0]["theta"] == [1, 1]
    assert points[0]["loss"] + 0.1 * points[0]["dloss_dt"] == pytest.approx(points[1]["loss"])


def test_accumulated_and_clipped(trainer: Callable[..., Trainer]) -> None:
    module = Points("quadratic", learning_rate=0.01)
    trainer(max_epochs=1, accumulate_grad_batches=2, gradient_clip_val=1.0).fit(module, Steps(4))
    first, second = module.points
    assert first["loss"] == pytest.approx(5.5)
    # The gradient's own norm, and a step along the clipped one, of length h.
    assert first["grad_norm"] == pytest.approx(math.sqrt(101))
    assert first["dloss_dt_predicted"] == pytest.approx(-math.sqrt(101), rel=1e-4)
    assert first["loss"] + 0.01 * first["dloss_dt"] == pytest.approx(second["loss"])


# ---- Networks ----


def classifier() -> nn.Module:
    """With all that would make a second evaluation another one: dropout and batch norm."""
    torch.manual_seed(0)
    hidden = [nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*hidden, nn.Linear(8, 3))


class Labeled:
    """Batches (inputs (8, 12), classes (8,))."""

    def __init__(self, number: int) -> None:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(number, 8, 12, generator=generator)
        self.parts = list(zip(x, (x[..., :3]).argmax(dim=2), strict=True))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Any:
        return iter(self.parts)


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_a_networks_loss_is_measured_on_the_same_batch_mask_and_buffers(
    trainer: Callable[..., Trainer], settings: dict[str, Any]
) -> None:
    """With a step of almost nothing, dL/dt is the chain rule's; another dropout mask would be off by its noise / h."""
    module = Points(network=classifier(), learning_rate=1e-3 if settings.get("precision") else 1e-5)
    module.double()
    trainer(max_epochs=1, log_every_n_steps=1, **settings).fit(module, Doubled(4))
    tolerance = 0.2 if settings.get("precision") else 1e-3
    assert len(module.points) == 4 // settings.get("accumulate_grad_batches", 1)
    for point in module.points:
        assert point["dloss_dt_predicted"] == pytest.approx(-(point["grad_norm"] ** 2))
        assert point["dloss_dt"] == pytest.approx(point["dloss_dt_predicted"], rel=tolerance)


class Doubled(Labeled):
    """In double precision."""

    def __iter__(self) -> Any:
        return ((x.double(), y) for x, y in self.parts)


def test_watching_changes_nothing(trainer: Callable[..., Trainer]) -> None:
    states = []
    for interval in 1, 1000:
        module = OptimizationFlow(network=classifier(), optimizer="Adam", learning_rate=0.01)
        torch.manual_seed(1)
        trainer(max_epochs=1, log_every_n_steps=interval).fit(module, Labeled(6))
        states.append(module.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_network_is_watched_at_the_steps_that_are_logged(trainer: Callable[..., Trainer]) -> None:
    module = Points(network=classifier(), learning_rate=0.01)
    made = trainer(max_epochs=1, log_every_n_steps=3)
    made.fit(module, Labeled(6), Labeled(2))
    assert [point and point["step"] for point in module.points] == [None, None, 2, 2, 2, 5]
    assert set(made.callback_metrics) >= NAMES | {"val/loss", "val/accuracy"}
    assert "train/ode_distance" not in made.callback_metrics
    assert set(made.callback_metrics) & {"val/theta_0"} == set()


def test_a_loss_of_your_own(trainer: Callable[..., Trainer]) -> None:
    network = nn.Sequential(nn.Linear(12, 1), nn.Flatten(0))
    module = OptimizationFlow(network=network, loss=nn.MSELoss(), optimizer="LossGuidedFlow", learning_rate=0.1)
    made = trainer(max_epochs=20)

    class Regression(Labeled):
        def __iter__(self) -> Any:
            return ((x, x.sum(dim=1)) for x, _ in self.parts)

    made.fit(module, Regression(8), Regression(2))
    assert made.callback_metrics["val/loss"] < 1
    assert "val/accuracy" not in made.callback_metrics
    x = torch.zeros(2, 12)
    assert torch.equal(module(x), network(x))
    assert torch.equal(module.predict_step((x, x), 0), network(x))


# ---- Checkpoints and mistakes ----


def test_checkpoints(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    made = trainer(max_epochs=1)
    made.fit(OptimizationFlow("rosenbrock", learning_rate=1e-4), Steps(2))
    made.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    again = OptimizationFlow.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(again.theta, made.lightning_module.theta)
    assert again.hparams["function"] == "rosenbrock"
    made = trainer(max_epochs=1)
    made.fit(OptimizationFlow(network=classifier()), Labeled(2))
    made.save_checkpoint(tmp_path / "b.ckpt", weights_only=False)
    network = classifier()
    OptimizationFlow.load_from_checkpoint(tmp_path / "b.ckpt", weights_only=True, network=network)
    trained: Tensor = made.lightning_module.network[1].weight
    assert torch.equal(network[1].weight, trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "rosenbrok"}, "Did you mean 'rosenbrock'"),
        ({"start": [1.0, 2.0]}, "start=.* has 2 numbers, function='quartic' takes 1"),
        ({"optimizer": "LossGuidedFlw"}, "Did you mean 'LossGuidedFlow'"),
        ({"optimizer": "LossGuidedFlow", "optimizer_args": {"max_ration": 3}}, "Did you mean 'max_ratio'"),
        ({"network": nn.Linear(1, 1), "function": "quartic"}, "leave them out with a network"),
        ({"network": nn.Linear(1, 1), "start": [1.0]}, "leave them out with a network"),
        ({"loss": nn.MSELoss()}, "leave it out with a test function"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizationFlow(**arguments)


def test_batches_without_targets(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(ValueError, match=r"needs batches \(inputs, targets\), this one is a Tensor"):
        trainer(max_epochs=1).fit(OptimizationFlow(network=nn.Linear(1, 1)), Steps(2))
