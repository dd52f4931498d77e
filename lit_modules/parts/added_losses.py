"""Losses and metrics from anywhere in a model (article 4, "make Keras cooler", Scientific Spaces, 2019-01-27).

A loss need not compare an output with a target, nor be known to what trains the model. Any module, at any depth, may
say

    add_loss("sparsity", h.abs().mean(), weight=1e-3)
    add_metric("x_h_norm", h.square().sum(dim=1).mean())

while it runs. The block of :func:`collect`, or the step of a LightningModule with ``free_losses.FreeLosses``, that runs
it gets the sum of w_i L_i and all values by name. Where nobody collects, such as in prediction, the calls do nothing.

Losses of the same name in one pass are added up, metrics of the same name averaged.
"""

import functools
import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lit_modules.parts.recomputed_losses import debts, in_backward, in_first_run


class AddedLoss(NamedTuple):
    """A call of :func:`add_loss`; ``owes_gradient`` if it was in the first run of a reentrant checkpoint."""

    name: str
    value: Tensor
    weight: float | Tensor
    owes_gradient: bool

    def weighted(self) -> Tensor:
        """Shape ()."""
        one = isinstance(self.weight, int | float) and self.weight == 1  # saves a kernel
        return self.value if one else self.value * self.weight


class _Chain:
    """The calls so far, from the last to the first.

    No list: torch.compile would compile a layer anew for every length that it finds.
    """

    def __init__(self, item: Any = None, before: "_Chain | None" = None) -> None:
        self.item, self.before = item, before

    def items(self) -> list[Any]:
        """From the first to the last."""
        found: list[Any] = []
        chain: _Chain = self
        while chain.before is not None:
            found.append(chain.item)
            chain = chain.before
        return found[::-1]


class Collected:
    """What one pass has added.

    Attributes:
        module: whose step it is, if it is one.
        logged: the names that the step has logged itself.
    """

    def __init__(self, module: LightningModule | None = None) -> None:
        self._losses = _Chain()
        self._metrics = _Chain()
        self.module = module
        self._taken = 0
        self.logged: set[str] = set()

    def add_loss(self, loss: AddedLoss) -> None:
        """Note a call of :func:`add_loss`."""
        self._losses = _Chain(loss, self._losses)

    def add_metric(self, name: str, value: Tensor | float) -> None:
        """Note a call of :func:`add_metric`."""
        self._metrics = _Chain((name, value), self._metrics)

    @property
    def losses(self) -> list[AddedLoss]:
        """In the order of the calls."""
        return self._losses.items()

    @property
    def metrics(self) -> list[tuple[str, Tensor | float]]:
        """(name, value) in the order of the calls."""
        return self._metrics.items()

    def take(self) -> Tensor | None:
        """The weighted sum (scalar) of the losses that were added since the last call; None if there are none."""
        new = self.untaken()
        self._taken += len(new)
        total = weighted_sum(new)
        owing = [loss.name for loss in new if loss.owes_gradient]
        if total is not None and owing and torch.is_grad_enabled():
            total = total if total.requires_grad else total.clone().requires_grad_()
            total.register_hook(lambda gradient: debts.take_on(owing, gradient))
        return total

    def untaken(self) -> list[AddedLoss]:
        """The losses that were added since the last call of :meth:`take`."""
        return self.losses[self._taken :]

    def values(self) -> dict[str, Tensor | float]:
        """By name, losses without their weights and metrics, all detached.

        Raises:
            ValueError: a loss and a metric have the same name.
        """
        losses = _by_name((loss.name, loss.value.detach()) for loss in self.losses)
        metrics = _by_name(self.metrics)
        for name in losses.keys() & metrics.keys():
            raise ValueError(f"{name!r} is the name of a loss and of a metric: choose another for one of them")
        means = {name: _total(found) / len(found) if len(found) > 1 else found[0] for name, found in metrics.items()}
        return {name: _total(found) for name, found in losses.items()} | means


def weighted_sum(losses: list[AddedLoss]) -> Tensor | None:
    """Sum of w_i L_i (scalar); None of nothing."""
    return _total([loss.weighted() for loss in losses]) if losses else None


def _total(values: list[Any]) -> Any:
    # Not sum(), whose 0 is a tensor's addition more.
    return functools.reduce(operator.add, values)


def _by_name(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


# A plain list and no ContextVar: torch.compile follows it without breaking the graph.
OPEN: list[Collected] = []


@contextmanager
def collect() -> Iterator[Collected]:
    """Collect what modules add in this block, for a training loop of your own.

        with collect() as added:
            model(x)
        added.take().backward()

    Blocks may be nested: the innermost one collects. One thread of a process at a time.

    Raises:
        RuntimeError: the backward pass before this block could not reach a loss added in a reentrant checkpoint.
    """
    with collect_step(None) as collected:
        yield collected


@contextmanager
def collect_step(module: LightningModule | None) -> Iterator[Collected]:
    """As :func:`collect`, for a step of ``module``."""
    debts.check()
    collected = Collected(module)
    OPEN.append(collected)
    try:
        yield collected
    finally:
        OPEN.pop()


def add_loss(name: str, value: Tensor, weight: float | Tensor = 1.0) -> None:
    """Add ``weight * value`` to the loss of the step that is running, if one is.

    Args:
        name: logged as train/NAME, val/NAME or test/NAME.
        value: shape (), floating point. It is logged without the weight.
        weight: a number, or a tensor of shape (), which torch.compile lets change without compiling anew.

    Raises:
        TypeError: a value that is no floating-point tensor.
        ValueError: a value with dimensions, or the name "loss", which is the sum's.
    """
    if in_backward():
        debts.pay(name, value, weight)
    elif OPEN:
        _check_name("add_loss", name)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"add_loss({name!r}) takes a floating-point tensor, got {got}")
        _check_scalar("add_loss", name, value)
        OPEN[-1].add_loss(AddedLoss(name, value, weight, in_first_run()))


def add_metric(name: str, value: Tensor | float) -> None:
    """Watch a scalar of the step that is running, if one is.

    Args:
        name: logged as train/NAME, val/NAME or test/NAME.
        value: a number or a tensor of shape (); its gradient is not kept.

    Raises:
        ValueError: a value with dimensions, or the name "loss", which is the sum's.
    """
    if OPEN and not in_backward():
        _check_name("add_metric", name)
        if isinstance(value, Tensor):
            _check_scalar("add_metric", name, value)
            value = value.detach() if value.is_floating_point() else value.detach().float()
        OPEN[-1].add_metric(name, value)


def _check_name(caller: str, name: str) -> None:
    if not name or name == "loss":
        raise ValueError(f"{caller}({name!r}): give it a name; 'loss' is that of the sum of all losses")


def _check_scalar(caller: str, name: str, value: Tensor) -> None:
    if value.dim():
        raise ValueError(
            f"{caller}({name!r}) got a tensor of shape {tuple(value.shape)}, but takes one number: take its mean or sum"
        )
