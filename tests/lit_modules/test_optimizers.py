"""Optimizers by path and schedules by name."""

import math
from importlib.metadata import EntryPoint, EntryPoints, entry_points

import pytest
import torch
from torch import nn

from lit_modules import RelativisticGAN
from lit_modules.parts import optimizers
from lit_modules.parts.flows import SignFlow
from lit_modules.parts.loss_guided import LossGuidedFlow
from lit_modules.parts.optimizers import (
    build_optimizer,
    build_scheduler,
    ignores_gradient_scale,
    learning_rate_factor,
    optimizer_arguments,
    optimizer_class,
    refuse_closures,
    refuse_dense_only,
)


def test_paths() -> None:
    assert optimizer_class("torch.optim.RMSprop") is torch.optim.RMSprop
    assert optimizer_class("AdamW") is torch.optim.AdamW
    with pytest.raises(ValueError, match=r"'torch.optim.Adm' is not .* Did you mean 'torch.optim.Adam'\?"):
        optimizer_class("torch.optim.Adm")
    with pytest.raises(ValueError, match="is not the path of an optimizer class"):
        optimizer_class("no_such_package.Adam")
    with pytest.raises(ValueError, match="is not the path"):
        optimizer_class("torch.optim.Optimizer")


def test_registered_short_names() -> None:
    assert optimizer_class("LossGuidedFlow") is LossGuidedFlow
    assert optimizer_class("lit_modules.parts.flows.SignFlow") is SignFlow
    with pytest.raises(ValueError, match=r"'LossGuidedFlw' is not .* Did you mean 'LossGuidedFlow'\?"):
        optimizer_class("LossGuidedFlw")


def test_a_registered_optimizer_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("Broken", "a_module_that_is_not_there:Broken", optimizers.PLUGINS)
    points = EntryPoints([broken, *entry_points(group=optimizers.PLUGINS)])
    monkeypatch.setattr(optimizers, "entry_points", lambda group: points)
    with pytest.raises(ValueError, match=r"optimizer='Broken' \(a_module_.*Broken\) cannot be imported: ModuleNot"):
        optimizer_class("Broken")
    # It does not stand in the way of the others.
    with pytest.raises(ValueError, match="all but LBFGS and LossGuidedFlow"):
        refuse_closures("LBFGS")


def test_torchs_names_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("Adam", "lit_modules.parts.flows:SignFlow", optimizers.PLUGINS)])
    monkeypatch.setattr(optimizers, "entry_points", lambda group: points)
    assert optimizer_class("Adam") is torch.optim.Adam


@pytest.mark.parametrize("path", ["LBFGS", "LossGuidedFlow", "lit_modules.parts.loss_guided.LossGuidedFlow"])
def test_manual_optimization_takes_no_closure(path: str) -> None:
    with pytest.raises(ValueError, match=r"needs a closure, .* all but LBFGS and LossGuidedFlow can be chosen here"):
        RelativisticGAN(optimizer=path)
    with pytest.raises(ValueError, match="all but LBFGS and LossGuidedFlow"):
        refuse_closures(path)
    for other in "Adam", "GradientFlow", "SignFlow", "ScalarRMSprop", "DampedFlow":
        refuse_closures(other)
        RelativisticGAN(network="points", width=2, optimizer=other)


def test_arguments() -> None:
    assert optimizer_arguments("Adam", [0.5, 0.9], {"eps": 1e-6}) == {"betas": (0.5, 0.9), "eps": 1e-6}
    assert optimizer_arguments("SGD", [0.5, 0.9], {"momentum": 0.9}) == {"momentum": 0.9}
    assert optimizer_arguments("Adam", [], {}) == {}
    assert optimizer_arguments("LossGuidedFlow", [0.5, 0.9], {"max_ratio": 10}) == {"max_ratio": 10}
    with pytest.raises(ValueError, match="Did you mean 'momentum'"):
        optimizer_arguments("SGD", [0.5, 0.9], {"momentun": 0.9})
    with pytest.raises(ValueError, match=r"set learning_rate \(or discriminator_lr and generator_lr\)"):
        optimizer_arguments("SGD", [0.5, 0.9], {"lr": 0.9})


def test_frozen_parameters_are_left_out() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    assert build_optimizer({"": (network, 0.1)}, "SGD", {}).param_groups[0]["params"] == [network.weight]


def test_groups_by_network() -> None:
    d, g = nn.Linear(2, 2), nn.Linear(3, 3)
    groups = build_optimizer({"d": (d, 0.1), "g": (g, 0.2)}, "Adam", {"betas": (0.5, 0.9)}).param_groups
    assert [(group["name"], group["lr"], len(group["params"])) for group in groups] == [("d", 0.1, 2), ("g", 0.2, 2)]


@pytest.mark.parametrize(
    ("path", "arguments", "expected"),
    [
        ("Adam", {}, True),
        ("AdamW", {"weight_decay": 0.1}, True),
        ("RMSprop", {"alpha": 0.99, "momentum": 0.9}, True),
        ("Adagrad", {}, True),
        ("SGD", {}, False),
        ("SGD", {"momentum": 0.9, "weight_decay": 0.1}, False),
        ("GradientFlow", {}, False),
        ("SignFlow", {}, True),
        # They divide by the size of the whole gradient: what one network's is multiplied by remains.
        ("ScalarRMSprop", {}, False),
        ("LossGuidedFlow", {}, False),
        ("LBFGS", {}, False),
    ],
)
def test_scale_of_gradients(path: str, arguments: dict[str, float], expected: bool) -> None:
    state = torch.get_rng_state()
    assert ignores_gradient_scale(path, arguments) == expected
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    factors = [learning_rate_factor(step, schedule, 2, 6) for step in range(6)]
    assert factors == pytest.approx(expected)


def test_fall_to_zero_needs_an_end() -> None:
    optimizer = build_optimizer({"": (nn.Linear(1, 1), 0.1)}, "SGD", {})
    for end in (math.inf, -1):
        with pytest.raises(ValueError, match=r"lr_schedule='cosine' .* set trainer.max_steps"):
            build_scheduler(optimizer, "cosine", 0, end)


def test_optimizers_for_sparse_gradients() -> None:
    for path in ("SGD", "SparseAdam", "torch.optim.Adagrad"):
        refuse_dense_only(path, {})
    with pytest.raises(ValueError, match=r"'AdamW' does not take sparse gradients.* Adagrad, .*SGD, SparseAdam"):
        refuse_dense_only("AdamW", {})
    # What it is told may decide.
    with pytest.raises(ValueError, match="'Adagrad' does not take sparse"):
        refuse_dense_only("Adagrad", {"weight_decay": 0.1})
