"""Optimizers that follow a flow theta'(t) by Euler's method with step size ``lr`` (article 3 of the blog).

Let theta(t) move in any way, then dL/dt = <grad L, theta'>: whatever makes that negative optimizes. With g = grad L:

    GradientFlow     theta' = -g                               dL/dt = -|g|^2     SGD is Euler's method for it
    SignFlow         theta' = -sign(g)                         dL/dt = -|g|_1     RMSprop without its average
    ScalarRMSprop    theta' = -g / sqrt(G + eps)               dL/dt = -|g|^2 / sqrt(G + eps)
    LossGuidedFlow   theta' = -L g / |g|^2                     dL/dt = -L, so L(t) = L(0) exp(-t)
                     truncated: -(g / |g|) L min(1 / |g|, M)
    DampedFlow       theta'' = -friction theta' - g            momentum

(The loss-guided flow is in ``parts.loss_guided``; Adagrad and RMSprop, with a number a component, are torch's.) All of
them are plain ``torch.optim.Optimizer``: parameter groups, ``state_dict``, closures, schedulers of ``lr``. Parameters
must be real and gradients dense.

Sources: article 3, and parts I (momentum) and II (adaptive step sizes) of the same series.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

Closure = Callable[[], Any]


class Flow(Optimizer):
    """What the flows share: groups of parameters that are checked, and their gradients.

    Args:
        params: parameters or parameter groups.
        settings: the defaults of all groups, ``lr`` among them.

    Raises:
        ValueError: a setting out of its range, a complex parameter, or a group with a setting of its own that is one
            for all of theta.
    """

    common: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: ParamsT, settings: dict[str, Any]) -> None:
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, such as layers that are unfrozen during training."""
        super().add_param_group(param_group)
        name, added = type(self).__name__, self.param_groups[-1]
        if not (math.isfinite(added["lr"]) and added["lr"] >= 0):
            raise ValueError(f"{name}: lr={added['lr']} must be a number from 0 on")
        if any(parameter.is_complex() for parameter in added["params"]):
            raise ValueError(f"{name} takes no complex parameters: view them as real by torch.view_as_real")
        for setting in self.common:
            if added[setting] != self.param_groups[0][setting]:
                raise ValueError(f"{name}: {setting} is one for all parameters, no group has its own")

    def moving(self) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
        """By group, its settings, the parameters that have a gradient, and these gradients.

        Raises:
            ValueError: a gradient is sparse.
        """
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
            if any(gradient.is_sparse for gradient in gradients):
                raise ValueError(f"{type(self).__name__} takes no sparse gradients: set sparse=False in the embedding")
            if parameters:
                yield group, parameters, gradients

    def gradient_norm(self) -> Tensor:
        """|g| (scalar) over all groups, in float32 at least."""
        gradients = [gradient for _, _, gradients in self.moving() for gradient in gradients]
        norm = get_total_norm(gradients, foreach=True)
        return norm.to(torch.promote_types(norm.dtype, torch.float32))


def evaluated(closure: Closure | None) -> Any:
    """What the closure returns, None if there is none."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def check_positive(owner: Flow, **values: float) -> None:
    """Refuse numbers that are not positive, naming them."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{type(owner).__name__}: {name}={value} must be positive")


class GradientFlow(Flow):
    """theta' = -g. It stops at any point with a zero gradient.

    Args:
        params: parameters or parameter groups.
        lr: step size h of Euler's method: the time that passes in a step.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-2) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """theta - lr g; returns the closure's loss."""
        loss = evaluated(closure)
        for group, parameters, gradients in self.moving():
            torch._foreach_add_(parameters, gradients, alpha=-group["lr"])
        return loss


class SignFlow(Flow):
    """theta' = -sign(g) by component. It has no fixed point and never stops: in the end it jumps by ``lr``.

    Args:
        params: parameters or parameter groups.
        lr: step size h.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """theta - lr sign(g); returns the closure's loss."""
        loss = evaluated(closure)
        for group, parameters, gradients in self.moving():
            torch._foreach_add_(parameters, torch._foreach_sign(gradients), alpha=-group["lr"])
        return loss


class ScalarRMSprop(Flow):
    """RMSprop with one number for all of theta: G <- alpha G + (1 - alpha) |g|^2, theta' = -g / sqrt(G + eps).

    The step size adapts, so that Euler's error stays about constant, but the direction remains that of -g (part II
    of the series, where alpha is lambda).

    Args:
        params: parameters or parameter groups. G is that of all groups together.
        lr: about how far theta moves in a step.
        alpha: how slowly G forgets, in [0, 1).
        eps: added to G, positive.
    """

    common = ("alpha", "eps")

    def __init__(self, params: ParamsT, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8) -> None:
        if not 0 <= alpha < 1:
            raise ValueError(f"ScalarRMSprop: alpha={alpha} must be in [0, 1)")
        check_positive(self, eps=eps)
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """theta - lr g / sqrt(G + eps); returns the closure's loss."""
        loss, whole = evaluated(closure), self.param_groups[0]
        if not any(True for _ in self.moving()):
            return loss
        squared = self.gradient_norm().square()
        # In the group and not in ``state``, which would be rounded to the parameters' type when it is loaded.
        before = whole.get("mean_square", torch.zeros(())).to(squared)
        whole["mean_square"] = before.lerp(squared, 1 - whole["alpha"])
        factor = (whole["mean_square"] + whole["eps"]).rsqrt()
        for group, parameters, gradients in self.moving():
            torch._foreach_add_(parameters, torch._foreach_mul(gradients, factor), alpha=-group["lr"])
        return loss


class DampedFlow(Flow):
    """theta'' = -friction theta' - g, a mass that rolls downhill with friction, by leapfrog with time step ``lr``.

    The same as torch's SGD with momentum = (1 - friction lr / 2) / (1 + friction lr / 2) and learning rate
    lr^2 / (1 + friction lr / 2) (part I of the series). But here the state is the velocity, so that a changed ``lr``
    changes how exactly the trajectory is followed, and not the trajectory.

    Args:
        params: parameters or parameter groups.
        lr: time step. For curvatures up to k it has to be below 2 / sqrt(k).
        friction: positive; 2 sqrt(k) is the critical damping of curvature k.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-1, friction: float = 1.0) -> None:
        check_positive(self, friction=friction)
        super().__init__(params, {"lr": lr, "friction": friction})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """v <- beta v - lr / (1 + friction lr / 2) g, theta + lr v; returns the closure's loss."""
        loss = evaluated(closure)
        for group, parameters, gradients in self.moving():
            half = group["friction"] * group["lr"] / 2
            velocities = [self._velocity(parameter) for parameter in parameters]
            torch._foreach_mul_(velocities, (1 - half) / (1 + half))
            torch._foreach_add_(velocities, gradients, alpha=-group["lr"] / (1 + half))
            torch._foreach_add_(parameters, velocities, alpha=group["lr"])
        return loss

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state["velocity"]
