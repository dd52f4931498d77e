"""Losses added inside ``torch.utils.checkpoint``, which runs a forward pass again in the backward pass.

What the second run adds was collected in the first one and must not count again. Nor is it needed for the gradient if
``use_reentrant=False``: the graph of the first run stands. With ``use_reentrant=True`` the first run has no graph, so
the loss is a plain number there, and its gradient has to be added in the second run. All losses of a pass are summed
with weights w, so value v of that run owes its inputs and parameters w * s * dv, where s is the gradient that the
sum itself gets.
"""

import sys
from collections.abc import Iterator
from types import CodeType

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.checkpoint import CheckpointFunction

_FORWARD: CodeType = CheckpointFunction.forward.__code__
_BACKWARD: CodeType = CheckpointFunction.backward.__code__


def in_backward() -> bool:
    """Whether a backward pass is running, in whichever thread this is. Never in code that is being compiled."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def in_first_run() -> bool:
    """Whether this is called from the first run of a reentrant checkpoint, where nothing has a gradient."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return _innermost_run() is _FORWARD


def _innermost_run() -> CodeType | None:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code in (_FORWARD, _BACKWARD):
            return frame.f_code
        frame = frame.f_back  # type: ignore[assignment]
    return None


class _Debts:
    """The gradients that first runs still owe in the running backward pass. One for the process: autograd's threads
    differ from the one that trains."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.scale = torch.ones(())

    def take_on(self, names: list[str], scale: Tensor) -> None:
        """Begin the backward pass of a sum of losses."""
        self.check()
        self.names, self.scale = list(names), scale

    def pay(self, name: str, value: Tensor, weight: float | Tensor) -> None:
        """Add a value's gradients, if it is from a second run and the first one had no graph."""
        if name in self.names and _innermost_run() is _BACKWARD:
            self.names.remove(name)
            if value.requires_grad:
                _accumulate_gradients(value, (self.scale * weight).detach().to(value))

    def check(self) -> None:
        """Raise RuntimeError if an earlier backward pass left debts."""
        names, self.names = sorted(set(self.names)), []
        if names:
            raise RuntimeError(
                f"add_loss of {', '.join(map(repr, names))} in torch.utils.checkpoint(..., use_reentrant=True) got no"
                " gradient, because the loss did not depend on what the checkpointed function returns: set"
                " use_reentrant=False"
            )


debts = _Debts()


def _accumulate_gradients(value: Tensor, gradient: Tensor) -> None:
    """Add to ``.grad`` of all leaves as backward does, but without its hooks: DDP's are for the pass around this."""
    leaves = list(_leaves(value.grad_fn))
    for leaf, grad in zip(leaves, torch.autograd.grad(value, leaves, gradient, retain_graph=True), strict=True):
        if leaf.grad is None:
            leaf.grad = grad
        else:
            leaf.grad.add_(grad)


def _leaves(root: Node | None) -> Iterator[Tensor]:
    """The leaf tensors of a graph."""
    stack, seen = [root], {root}
    while stack:
        node = stack.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            yield node.variable
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        stack += new
