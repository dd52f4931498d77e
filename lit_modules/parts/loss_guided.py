"""The loss-guided flow theta' = -L grad L / |grad L|^2 of article 3, an optimizer that needs to know the loss.

dL/dt = <grad L, theta'> = -L, so that L(t) = L(0) exp(-t) whatever the function is: Polyak's step size ("Introduction
to optimization", 1987) with a known minimum of L. Its closure's loss has to be the one whose gradient it gets; most of
this file makes sure of that.
"""

import math
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lit_modules.parts.distributed import mean_over_ranks, rank_and_world_size
from lit_modules.parts.flows import Closure, Flow, check_positive, evaluated


class LossGuidedFlow(Flow):
    """theta' = -L g / |g|^2, so that L(t) = L(0) exp(-t): the loss itself says how fast to go.

    It needs the loss, so ``step`` needs a closure that returns it; Lightning's automatic optimization passes one.
    |g| is that of all groups together. In a distributed run L is averaged over ranks, as DDP does with g.

    Where |g| is small and L is not (a local minimum) theta' is infinite; truncated by ``max_ratio`` = M it is
    -(g / |g|) L min(1 / |g|, M), which jumps about there until it gets out, or not. Where g is exactly 0 there is no
    direction, and theta stays. Clipped gradients make the steps *longer*: leave clipping off.

    Args:
        params: parameters or parameter groups.
        lr: step size h; the loss falls by about h L in a step.
        max_ratio: M, positive; None for no truncation.
        minimum: what the loss can reach at best (with a penalty or an entropy in it, that is not 0).

    Raises:
        ValueError: in ``step``, if the loss is missing, is below ``minimum``, or is that of a part of the gradient.
        FloatingPointError: in ``step``, if the loss, the gradient or the step is NaN or infinite; theta is not moved.
    """

    common = ("max_ratio", "minimum")
    needs_closure = True

    def __init__(self, params: ParamsT, lr: float = 1e-2, max_ratio: float | None = None, minimum: float = 0.0) -> None:
        if max_ratio is not None:
            check_positive(self, max_ratio=max_ratio)
        super().__init__(params, {"lr": lr, "max_ratio": max_ratio, "minimum": minimum})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """theta - lr L g / |g|^2 with L from the closure, which is needed; returns L as the closure did."""
        loss = self._evaluated_here(closure)
        if not any(True for _ in self.moving()):
            return loss
        speed = self._speed(*self._over_ranks(loss))
        for group, parameters, gradients in self.moving():
            torch._foreach_add_(parameters, gradients, alpha=-group["lr"] * speed)
        return loss

    def _speed(self, loss: float, norm: float) -> float:
        """|theta'| / |g| = (L - minimum) min(1 / |g|, M) / |g|."""
        minimum, max_ratio = self.param_groups[0]["minimum"], self.param_groups[0]["max_ratio"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"LossGuidedFlow: the loss is {loss} and its gradient's norm {norm}: no step taken"
            )
        if loss < minimum:
            raise ValueError(
                f"LossGuidedFlow: the loss is {loss}, below minimum={minimum}: set a minimum it can't pass"
            )
        if norm == 0:
            return 0.0
        speed = (loss - minimum) * min(1 / norm, max_ratio or math.inf) / norm
        if not math.isfinite(speed):
            raise FloatingPointError(
                f"LossGuidedFlow: the gradient's norm is {norm} where the loss is {loss}, so that the step is infinite"
                " and was not taken: set max_ratio"
            )
        return speed

    def _over_ranks(self, loss: Any) -> tuple[float, float]:
        """L averaged over ranks, and |g|, which all ranks must have in common."""
        norm = self.gradient_norm()
        both = torch.stack([torch.as_tensor(loss).detach().to(norm).reshape(()), norm])
        own = norm.item()
        mean_loss, mean_norm = mean_over_ranks(both).tolist()
        if rank_and_world_size()[1] > 1 and abs(mean_norm - own) > 1e-3 * mean_norm:
            raise ValueError(
                "LossGuidedFlow: the ranks have different gradients. It needs DDP or its like, where each has all"
                " parameters and averaged gradients"
            )
        return mean_loss, own

    # ---- Whether the closure's loss is that of the gradient ----

    def _evaluated_here(self, closure: Closure | None) -> Any:
        self._in_closure = True
        try:
            loss = evaluated(closure)
        finally:
            self._in_closure = False
        outside, inside, self._outside, self._inside = self._outside, self._inside, False, False
        if outside and inside:
            raise ValueError(
                "LossGuidedFlow: the gradient was added to before step() and again in its closure, so that the"
                " closure's loss is only a part of it, as with accumulate_grad_batches: use larger batches instead"
            )
        if loss is None and any(True for _ in self.moving()):
            raise ValueError(
                "LossGuidedFlow needs the loss: call step(closure) with a closure that returns it. Lightning does in"
                " automatic optimization, but not with precision='16-mixed' (use bf16-mixed)"
            )
        return loss

    # Watched from the first group on, which is added before __init__ ends.
    _in_closure = _outside = _inside = False
    _hooks: tuple[Any, ...] = ()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, such as layers that are unfrozen during training."""
        super().add_param_group(param_group)
        self._watch()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._watch()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Zero the gradients."""
        super().zero_grad(set_to_none)
        self._outside = self._inside = False

    def _watch(self) -> None:
        """Note from now on when a gradient is added to."""
        this = weakref.ref(self)

        def note(_: Tensor) -> None:
            if (flow := this()) is not None:
                flow._inside, flow._outside = flow._inside or flow._in_closure, flow._outside or not flow._in_closure

        for hook in self._hooks:
            hook.remove()
        trained = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        self._hooks = tuple(parameter.register_post_accumulate_grad_hook(note) for parameter in trained)
