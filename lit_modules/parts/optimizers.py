"""Optimizers by class path and learning-rate schedules by name, from JSON-plain arguments."""

import difflib
import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_modules.parts.adversarial import check_name

SCHEDULES = ("constant", "linear", "cosine")


PLUGINS = "litspaces.optimizers"


def optimizer_class(path: str) -> type[Optimizer]:
    """The optimizer class at ``path``.

    Args:
        path: "torch.optim.Adam" or "Adam" for short; the short name of a class that an installed package registers in
            the entry-point group ``litspaces.optimizers``, as this one does with "LossGuidedFlow"; or the path of any
            other class.

    Raises:
        ValueError: no such optimizer, with the nearest one, or one whose package can't be imported.
    """
    module_name, _, name = path.rpartition(".")
    found = None if module_name else _registered_class(name)
    if found is None:
        try:
            found = getattr(importlib.import_module(module_name or "torch.optim"), name)
        except (ImportError, AttributeError):
            found = None
    if not _is_optimizer(found):
        raise ValueError(f"optimizer={path!r} is not the path of an optimizer class.{_nearest(name)}")
    return cast(type[Optimizer], found)


def _is_optimizer(found: object) -> bool:
    return inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer


def _registered_class(name: str) -> object:
    """The class of that short name, None if torch has one or nobody does."""
    points = [point for point in entry_points(group=PLUGINS) if point.name == name]
    if not points or hasattr(torch.optim, name):
        return None
    try:
        return points[0].load()
    except Exception as error:
        # Whatever went wrong: it is code that is not ours.
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"optimizer={name!r} ({points[0].value}) cannot be imported: {reason}") from error


def _registered() -> Iterator[type[Optimizer]]:
    """The registered classes, without those that can't be imported."""
    for name in entry_points(group=PLUGINS).names:
        with suppress(ValueError):
            yield optimizer_class(name)


def _of_torch() -> dict[str, type[Optimizer]]:
    return {name: found for name, found in vars(torch.optim).items() if _is_optimizer(found)}


def _nearest(name: str) -> str:
    known = {short: f"torch.optim.{short}" for short in _of_torch()}
    known |= {short: short for short in entry_points(group=PLUGINS).names}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean '{known[near[0]]}'?" if near else ""


def needs_closure(found: type[Optimizer]) -> bool:
    """Whether the optimizer's step needs a closure that evaluates the loss, as torch's LBFGS and LossGuidedFlow."""
    closure = inspect.signature(found.step).parameters.get("closure")
    required = closure is not None and closure.default is inspect.Parameter.empty
    return required or getattr(found, "needs_closure", False)


def refuse_closures(path: str) -> None:
    """For a module that optimizes manually and so has no closure to pass.

    Raises:
        ValueError: the optimizer at ``path`` needs one; names all that do.
    """
    if not needs_closure(optimizer_class(path)):
        return
    known = [*_of_torch().values(), optimizer_class(path), *_registered()]
    names = sorted({found.__name__ for found in known if needs_closure(found)})
    raise ValueError(
        f"optimizer={path!r} evaluates the loss within its step, for which it needs a closure, which a game between"
        f" two optimizers does not allow: all but {' and '.join(names)} can be chosen here"
    )


def refuse_dense_only(path: str, arguments: Mapping[str, Any]) -> None:
    """For a module whose gradients are sparse, because a step touches a few rows of its tables.

    Raises:
        ValueError: the optimizer at ``path`` doesn't take them; names some that do.
    """
    if takes_sparse_gradients(optimizer_class(path), arguments):
        return
    known = {found.__name__ for found in [*_of_torch().values(), *_registered()] if takes_sparse_gradients(found, {})}
    raise ValueError(
        f"optimizer={path!r} does not take sparse gradients, which is all that a step has for large tables:"
        f" choose one of {', '.join(sorted(known))}"
    )


def takes_sparse_gradients(found: type[Optimizer], arguments: Mapping[str, Any]) -> bool:
    """Whether a step with a sparse gradient of a table succeeds. Tried out."""
    table = nn.Embedding(2, 2, sparse=True)
    table(torch.tensor([0])).sum().backward()
    make: Callable[..., Optimizer] = found
    with warnings.catch_warnings():
        # torch on its own use of sparse tensors.
        warnings.simplefilter("ignore")
        try:
            make(table.parameters(), lr=1e-3, **arguments).step(lambda: 1.0)
        except Exception:
            # Each has an error of its own for this.
            return False
    return True


def optimizer_arguments(path: str, betas: Sequence[float], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the optimizer at ``path``: ``extra``, and ``betas`` (if any) where it has such an
    argument.

    Raises:
        ValueError: an argument in ``extra`` that the optimizer does not have, with the nearest right one.
    """
    known = [p for p in inspect.signature(optimizer_class(path)).parameters if p not in ("params", "lr")]
    for name in extra:
        if name == "lr":
            raise ValueError(
                "optimizer_args has 'lr': set learning_rate (or discriminator_lr and generator_lr) instead"
            )
        check_name(f"argument of {path} in optimizer_args", name, tuple(known))
    defaults = {"betas": tuple(betas)} if betas and "betas" in known else {}
    return defaults | dict(extra)


def build_optimizer(
    networks: Mapping[str, tuple[nn.Module, float]], path: str, arguments: Mapping[str, Any]
) -> Optimizer:
    """The optimizer at ``path`` over trainable parameters, with a group for each network.

    Args:
        networks: by the name of the group, a network and its learning rate.
        path: see :func:`optimizer_class`.
        arguments: see :func:`optimizer_arguments`.
    """
    make: Callable[..., Optimizer] = optimizer_class(path)
    groups = [
        {"params": [p for p in network.parameters() if p.requires_grad], "lr": lr, "name": name}
        for name, (network, lr) in networks.items()
    ]
    return make(groups, lr=groups[0]["lr"], **arguments)


def ignores_gradient_scale(path: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a parameter moves as far if its gradient alone is three times as large, as with Adam. Tried out."""

    def moved_by(scale: float) -> float:
        """How far a parameter moves, as a multiple of what another one does."""
        layer = nn.ParameterList([torch.zeros(2, 2), torch.zeros(2, 2)])
        optimizer = build_optimizer({"layer": (layer, 1e-3)}, path, arguments)
        for step in range(3):
            layer[0].grad, layer[1].grad = scale * (torch.eye(2) + step), torch.eye(2) + step
            optimizer.step(lambda: 1.0)
        return (layer[0].norm() / layer[1].norm()).item()

    return moved_by(3.0) < 1.5 * moved_by(1.0)


def learning_rate_factor(step: int, schedule: str, warmup_steps: int, total_steps: float) -> float:
    """What the learning rate is multiplied by in step ``step`` (from 0).

    A linear warm-up over ``warmup_steps`` (1/w, 2/w, ..., 1), then 1 ("constant"), or a fall from 1 to 0 at
    ``total_steps``, straight ("linear") or as half a cosine ("cosine").
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
    return 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2


def build_scheduler(optimizer: Optimizer, schedule: str, warmup_steps: int, total_steps: float) -> LambdaLR:
    """A scheduler that applies :func:`learning_rate_factor`, to be stepped once a training step.

    Raises:
        ValueError: a schedule that falls to 0 in a run without an end.
    """
    if schedule != "constant" and not 0 < total_steps < math.inf:
        raise ValueError(
            f"lr_schedule={schedule!r} falls to 0 at the end of training: set trainer.max_steps (or"
            " trainer.max_epochs with data of a known length)"
        )
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, schedule, warmup_steps, total_steps))


def scheduled(optimizer: Optimizer, hparams: Mapping[str, Any], trainer: Trainer) -> Any:
    """What ``configure_optimizers`` returns in automatic optimization: the optimizer, and a scheduler if there is one.

    Args:
        optimizer: the module's only one.
        hparams: the module's, with ``lr_schedule`` and ``warmup_steps``.
        trainer: knows how many steps the run has.
    """
    if hparams["lr_schedule"] == "constant" and not hparams["warmup_steps"]:
        return optimizer
    total = trainer.estimated_stepping_batches
    scheduler = build_scheduler(optimizer, hparams["lr_schedule"], hparams["warmup_steps"], total)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
