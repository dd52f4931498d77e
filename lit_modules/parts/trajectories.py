"""What a flow does between Euler's steps: theta(t) by an adaptive solver, to measure Euler's error against.

The flows of article 3 that are ordinary differential equations with a continuous right-hand side have one: gradient,
loss-guided and damped. The sign flow's jumps wherever a component of the gradient changes its sign, and what RMSprop
and Adam do depends on the step size: for these there is no reference.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import SGD, Optimizer

from lit_modules.parts.flows import DampedFlow, GradientFlow
from lit_modules.parts.loss_guided import LossGuidedFlow

Vector = NDArray[np.float64]
# The whole state to its derivative: theta, or theta and theta'.
Derivative = Callable[[float, Vector], Vector]
LossAndGradient = Callable[[Vector], tuple[float, Vector]]
STEPS_AT_ONCE = 100
# Where the gradient is smaller, the loss-guided flow has arrived; at a local minimum it goes no further.
ARRIVED = 1e-6


def loss_and_gradient(function: Callable[[Tensor], Tensor]) -> LossAndGradient:
    """A function of a tensor (d,) as one of an array (d,) that returns value and gradient."""

    def evaluate(theta: Vector) -> tuple[float, Vector]:
        point = torch.from_numpy(theta.copy()).requires_grad_()
        with torch.enable_grad():
            value = function(point)
            (gradient,) = torch.autograd.grad(value, point)
        return value.item(), gradient.numpy()

    return evaluate


def gradient_flow(evaluate: LossAndGradient) -> Derivative:
    """theta' = -g."""
    return lambda _, theta: -evaluate(theta)[1]


def loss_guided_flow(evaluate: LossAndGradient, max_ratio: float | None, minimum: float) -> Derivative:
    """theta' = -(g / |g|) (L - minimum) min(1 / |g|, M)."""

    def derivative(_: float, theta: Vector) -> Vector:
        loss, gradient = evaluate(theta)
        norm = float(np.linalg.norm(gradient))
        speed = min(1 / norm, max_ratio or np.inf) / norm
        return -(loss - minimum) * speed * gradient

    return derivative


def damped_flow(evaluate: LossAndGradient, friction: float) -> Derivative:
    """(theta, v)' = (v, -friction v - g)."""

    def derivative(_: float, state: Vector) -> Vector:
        theta, velocity = np.split(state, 2)
        return np.concatenate([velocity, -friction * velocity - evaluate(theta)[1]])

    return derivative


class Trajectory:
    """theta(t) at the times n h, n = 0, 1, ..., by ``scipy.integrate.solve_ivp`` (LSODA, relative tolerance 1e-9).

    It is solved in pieces of 100 steps, as far as it is asked for, so that how far makes no difference. The
    loss-guided flow ends where the gradient's norm is below 1e-6: at a minimum, which it reaches in a finite time if
    L > 0 there. From then on theta(t) is that point.

    Args:
        derivative: of the state.
        start: theta(0), (d,).
        step: h.
        at_rest: whether the state is theta and theta', of which the latter begins at 0.
        arrives: the flow's gradient, if it ends where that vanishes.

    Raises:
        RuntimeError: the solver gives up, with its reason.
    """

    def __init__(
        self,
        derivative: Derivative,
        start: Vector,
        step: float,
        *,
        at_rest: bool = False,
        arrives: LossAndGradient | None = None,
    ) -> None:
        self._derivative, self._step, self._dimensions = derivative, step, len(start)
        state = np.concatenate([start, np.zeros_like(start)]) if at_rest else start
        self._states = [state.astype(np.float64)]
        self._arrives = arrives
        self._has_arrived = arrives is not None and float(np.linalg.norm(arrives(self._states[0])[1])) < ARRIVED

    def at(self, number: int) -> Vector:
        """theta(number * h), (d,)."""
        while len(self._states) <= number and not self._has_arrived:
            self._continue()
        return self._states[min(number, len(self._states) - 1)][: self._dimensions]

    def _continue(self) -> None:
        # Scipy's solvers take a third of a second to import.
        from scipy.integrate import solve_ivp

        times = np.arange(1, STEPS_AT_ONCE + 1) * self._step
        options = {"method": "LSODA", "rtol": 1e-9, "atol": 1e-12, "t_eval": times, "events": self._event()}
        solved = solve_ivp(self._derivative, (0.0, times[-1]), self._states[-1], **options)
        if solved.status < 0:
            raise RuntimeError(f"the flow's trajectory can't be solved: {solved.message}")
        self._states += list(solved.y.T)
        if solved.status == 1:
            self._has_arrived = True
            self._states.append(solved.y_events[0][0])

    def _event(self) -> Callable[[float, Vector], float] | None:
        evaluate = self._arrives
        if evaluate is None:
            return None

        def distance(_: float, theta: Vector) -> float:
            return float(np.linalg.norm(evaluate(theta)[1])) - ARRIVED

        distance.terminal = True  # type: ignore[attr-defined]
        return distance


def trajectory_of(optimizer: Optimizer, function: Callable[[Tensor], Tensor], start: Tensor) -> Trajectory | None:
    """The trajectory that an optimizer follows by steps; None for one that follows no such flow.

    Args:
        optimizer: :class:`GradientFlow` (or torch's plain SGD), :class:`LossGuidedFlow` or :class:`DampedFlow`.
        function: (d,) to a scalar.
        start: theta(0), (d,).
    """
    evaluate, group = loss_and_gradient(function), optimizer.param_groups[0]
    theta, step = start.detach().double().cpu().numpy(), float(group["lr"])
    plain = all(not group.get(name) for name in ("momentum", "weight_decay", "maximize"))
    if isinstance(optimizer, GradientFlow) or (isinstance(optimizer, SGD) and plain):
        return Trajectory(gradient_flow(evaluate), theta, step)
    if isinstance(optimizer, DampedFlow):
        return Trajectory(damped_flow(evaluate, group["friction"]), theta, step, at_rest=True)
    if isinstance(optimizer, LossGuidedFlow):
        derivative = loss_guided_flow(evaluate, group["max_ratio"], group["minimum"])
        return Trajectory(derivative, theta, step, arrives=evaluate)
    return None
