"""Optimizers by class path and learning-rate schedules by name, from JSON-plain arguments."""

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_modules.parts.adversarial import check_name

SCHEDULES = ("constant", "linear", "cosine")


def optimizer_class(path: str) -> type[Optimizer]:
    """The optimizer class at ``path``: "torch.optim.Adam", "Adam" for short, or a class of another package.

    Raises:
        ValueError: no such optimizer, with the nearest one of torch; one whose step needs a closure (LBFGS).
    """
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name or "torch.optim"), name)
    except (ImportError, AttributeError):
        found = None
    if not (inspect.isclass(found) and issubclass(found, Optimizer)) or found is Optimizer:
        known = [n for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, Optimizer)]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean 'torch.optim.{near[0]}'?" if near else ""
        raise ValueError(f"optimizer={path!r} is not the path of an optimizer class.{hint}")
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"optimizer={path!r} evaluates the loss several times a step, which a game between two"
            " optimizers does not allow: choose one whose step needs no closure, such as torch.optim.Adam"
        )
    return found


def optimizer_arguments(path: str, betas: list[float], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the optimizer at ``path``: ``extra``, and ``betas`` where it has such an
    argument.

    Raises:
        ValueError: an argument in ``extra`` that the optimizer does not have, with the nearest right one.
    """
    known = [p for p in inspect.signature(optimizer_class(path)).parameters if p not in ("params", "lr")]
    for name in extra:
        if name == "lr":
            raise ValueError("optimizer_args has 'lr': set discriminator_lr and generator_lr instead")
        check_name(f"argument of {path} in optimizer_args", name, tuple(known))
    defaults = {"betas": tuple(betas)} if "betas" in known else {}
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
    """Whether a gradient three times as large moves a parameter as far, as with Adam and RMSprop. Tried out."""

    def moved_by(scale: float) -> float:
        layer = nn.ParameterList([torch.zeros(2, 2)])
        optimizer = build_optimizer({"layer": (layer, 1e-3)}, path, arguments)
        for step in range(3):
            layer[0].grad = scale * (torch.eye(2) + step)
            optimizer.step()
        return layer[0].norm().item()

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
