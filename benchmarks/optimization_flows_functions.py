"""Article 3 on test functions: tables of dL/dt, of Euler's order and of the article's experiment, and its figure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Optimizer, RMSprop

from benchmarks.reporting import markdown_table
from lit_modules.parts.flows import DampedFlow, GradientFlow, ScalarRMSprop, SignFlow
from lit_modules.parts.loss_guided import LossGuidedFlow
from lit_modules.parts.test_functions import TEST_FUNCTIONS, TestFunction, quartic
from lit_modules.parts.trajectories import trajectory_of

GLOBAL_MINIMUM = (9 - math.sqrt(33)) / 8
STEPS, STEP_SIZE = 2500, 0.01
Flow = Callable[[list[nn.Parameter]], Optimizer]


def path_of(flow: Flow, function: Callable[[Tensor], Tensor], start: tuple[float, ...], steps: int) -> Tensor:
    """theta_0, ..., theta_steps, (steps + 1, d)."""
    theta = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = flow([theta])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = function(theta)
        loss.backward()
        return loss

    path = [theta.detach().clone()]
    for _ in range(steps):
        optimizer.step(closure)
        path.append(theta.detach().clone())
    return torch.stack(path)


# ---- dL/dt ----


def slopes(step: float = 1e-5) -> str:
    """Each flow's dL/dt in its first step, and as the article's formula has it, on Himmelblau's function."""
    function, flows = TEST_FUNCTIONS["himmelblau"], first_steps(step)
    theta = torch.tensor(function.start, dtype=torch.float64, requires_grad=True)
    loss = function.value(theta)
    (g,) = torch.autograd.grad(loss, theta)
    norm, at_start = g.norm().item(), loss.item()
    # In the first step G is 1 - alpha of the squared gradient, and the velocity -h g.
    formulas = {
        "GradientFlow": ("-‖g‖²", -(norm**2)),
        "SignFlow": ("-‖g‖₁", -g.abs().sum().item()),
        "RMSprop": ("-Σ g²/√G", -10 * g.abs().sum().item()),
        "ScalarRMSprop": ("-‖g‖²/√G", -10 * norm),
        "DampedFlow": ("⟨g, v⟩", -(norm**2) * step / (1 + step / 2)),
        "LossGuidedFlow": ("-L", -at_start),
        "LossGuidedFlow, M = 0.01": ("-L min(1, M‖g‖)", -at_start * min(1, 0.01 * norm)),
    }
    rows = []
    for name, (formula, value) in formulas.items():
        before, after = path_of(flows[name], function.value, function.start, 1)
        predicted = (g @ (after - before)).item() / step
        measured = (function.value(after) - function.value(before)).item() / step
        rows.append([name, formula, *(f"{number:.4g}" for number in (value, predicted, measured))])
    return markdown_table(["flow", "dL/dt", "formula", "predicted ⟨g, θ'⟩", "measured"], rows)


def first_steps(step: float) -> dict[str, Flow]:
    """The flows with a step size."""
    return {
        "GradientFlow": lambda theta: GradientFlow(theta, step),
        "SignFlow": lambda theta: SignFlow(theta, step),
        "RMSprop": lambda theta: RMSprop(theta, step),
        "ScalarRMSprop": lambda theta: ScalarRMSprop(theta, step),
        "DampedFlow": lambda theta: DampedFlow(theta, step),
        "LossGuidedFlow": lambda theta: LossGuidedFlow(theta, step),
        "LossGuidedFlow, M = 0.01": lambda theta: LossGuidedFlow(theta, step, max_ratio=0.01),
    }


# ---- Euler's order ----

ORDERS = (
    ("GradientFlow", GradientFlow, "quadratic", 1.0, 0.002),
    ("LossGuidedFlow", LossGuidedFlow, "quadratic", 1.0, 0.01),
    ("DampedFlow", DampedFlow, "quadratic", 1.0, 0.01),
    ("GradientFlow", GradientFlow, "himmelblau", 0.02, 0.0002),
    ("LossGuidedFlow", LossGuidedFlow, "himmelblau", 1.0, 0.01),
    ("GradientFlow", GradientFlow, "rosenbrock", 0.5, 0.0002),
    ("LossGuidedFlow", LossGuidedFlow, "rosenbrock", 1.0, 0.002),
)


def orders() -> str:
    """The distance from the exact trajectory at a time, for step sizes h, h/2 and h/4, and log2 of the ratios."""
    rows = []
    for name, flow, function, time, step in ORDERS:
        errors = [_error(flow, TEST_FUNCTIONS[function], time, step / factor) for factor in (1, 2, 4)]
        order = [f"{math.log2(coarse / fine):.3f}" for coarse, fine in itertools.pairwise(errors)]
        rows.append([f"{name}, {function}", f"{time:g}", f"{step:g}", *(f"{e:.3g}" for e in errors), *order])
    return markdown_table(["flow", "t", "h", "error, h", "h/2", "h/4", "order", "order"], rows)


def _error(flow: type[Optimizer], function: TestFunction, time: float, step: float) -> float:
    steps = round(time / step)
    make: Any = flow
    end = path_of(lambda theta: make(theta, lr=step), function.value, function.start, steps)[-1]
    start = nn.Parameter(torch.tensor(function.start, dtype=torch.float64))
    trajectory = trajectory_of(make([start], lr=step), function.value, start)
    assert trajectory is not None
    return float(np.linalg.norm(end.numpy() - trajectory.at(steps)))


# ---- The article's experiment ----


def experiments() -> dict[str, Flow]:
    """What the article starts at x = 4, with other values of M."""

    def guided(max_ratio: float) -> Flow:
        return lambda theta: LossGuidedFlow(theta, STEP_SIZE, max_ratio=max_ratio)

    gradient: dict[str, Flow] = {"GradientFlow": lambda theta: GradientFlow(theta, STEP_SIZE)}
    return gradient | {f"LossGuidedFlow, M = {m}": guided(m) for m in (1, 10, 100, 1000, 10000)}


def random_starts(number: int) -> Iterator[float]:
    """So many starts in [3.2, 5], always the same."""
    yield from np.random.default_rng(0).uniform(3.2, 5, number).tolist()


def experiment(starts: int) -> str:
    """Where each one ends, and from how many random starts it ends in the basin of the global minimum."""
    rows = []
    for name, flow in experiments().items():
        x = path_of(flow, quartic, (4.0,), STEPS)[:, 0]
        below = (x < 1.8).nonzero()
        first = str(int(below[0])) if len(below) else "never"
        ends = [path_of(flow, quartic, (start,), STEPS)[-1].item() for start in random_starts(starts)]
        near = sum(abs(end - GLOBAL_MINIMUM) < 0.05 for end in ends)
        basin = sum(end < 1.843 for end in ends)
        rows.append([name, f"{x[-1]:.4f}", first, f"{near} of {starts}", f"{basin} of {starts}"])
    headings = ["flow", "x at the end", "first below 1.8 at step", "within 0.05 of 0.407", "in its basin"]
    return markdown_table(headings, rows)


def dynamics_tables(starts: int = 25) -> list[str]:
    """All tables, each below a line that says what it is."""
    return [
        f"dL/dt in the first step (h = 1e-5) on Himmelblau's function from (0, 0).\n\n{slopes()}",
        f"Distance from the exact trajectory (scipy's LSODA) at time t.\n\n{orders()}",
        f"The article's experiment: {STEPS:,} steps of {STEP_SIZE} from x = 4, and from random x in [3.2, 5].\n\n"
        + experiment(starts),
    ]


def write_figure(path: Path) -> None:
    """The article's figure: x against the step, by gradient descent and by the truncated loss-guided flow."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = np.linspace(-0.5, 4.1, 400)
    left.plot(x, x * (x - 1) * (x - 3) ** 2 + 1.62276, color="black")
    left.set(xlabel="x", ylabel="f(x)", title="f = x (x − 1) (x − 3)² + 1.62276", ylim=(0, 14))
    for name in ("GradientFlow", "LossGuidedFlow, M = 1000"):
        right.plot(path_of(experiments()[name], quartic, (4.0,), STEPS)[:, 0].numpy(), label=name)
    right.set(xlabel="step", ylabel="x", title="from x = 4, h = 0.01")
    right.legend()
    for axes in left, right:
        axes.grid(True, alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})
