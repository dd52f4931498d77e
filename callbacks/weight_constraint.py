"""Weights that are put right after each optimizer step: theta <- constraint(theta)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from callbacks.weight_normalization import refuse_split_weights
from weight_norms import Constrained, Selection, check_constraint, constrain


class WeightConstraint(Callback):
    """After each optimizer step, theta <- constraint(theta) (article 4, post-processing; Keras's kernel_constraint).

    The step is the optimizer's own: each one of several in manual optimization, none where gradients are only
    accumulated or where fp16 skips one. An optimizer's step constrains the weights that it trains. Nothing is done
    before the first step.

    A layer is constrained if it satisfies each of `classes`, `names` and `predicate` that is given; without any, the
    dense and convolution layers are.

    Args:
        kind: "max_norm" (each output unit has at most norm `max_norm`), "unit_norm" (norm 1), "non_negative", "clip"
            (entries within `limit`, as WGAN's), "spectral" (a largest singular value of at most `max_norm`, by SVD).
        kind_args: arguments of the kind: `max_norm` of "max_norm" (2) and "spectral" (1), `limit` of "clip" (0.01).
        classes: names of the layers' classes: [Conv2d, LSTM].
        names: patterns of the layers' qualified names: ["discriminator.*"].
        predicate: a function (qualified name, layer) -> bool, or its dotted path.
        parameter: pattern of the parameters' names in a layer: "weight"; "weight_*" are all weights of an LSTM.

    Raises:
        ValueError: an unknown kind or argument, or (when training starts) layers that are not there, weights that no
            optimizer trains or that a normalization computes, a strategy that splits weights.
    """

    def __init__(
        self,
        kind: str,
        kind_args: dict[str, Any] | None = None,
        classes: list[str] | None = None,
        names: list[str] | None = None,
        predicate: str | Callable[[str, nn.Module], bool] | None = None,
        parameter: str = "weight",
    ) -> None:
        check_constraint(kind, kind_args)
        self.kind = kind
        self.kind_args = kind_args
        self.selection = Selection(classes or (), names or (), predicate, parameter)
        self._handles: list[RemovableHandle] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch the optimizers."""
        refuse_split_weights(trainer, self)
        constrained = constrain(pl_module, self.kind, self.kind_args, self.selection)
        _check_trained(constrained, trainer.optimizers)
        self._release()
        self._handles = [one.register_step_post_hook(_enforcing(constrained)) for one in trainer.optimizers]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the optimizers alone again."""
        self._release()

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _check_trained(constrained: list[Constrained], optimizers: list[Optimizer]) -> None:
    trained = set().union(*(_parameters(optimizer) for optimizer in optimizers))
    idle = [str(one.weight) for one in constrained if id(one.parameter) not in trained]
    if len(idle) == len(constrained):
        raise ValueError(f"no optimizer trains {', '.join(idle[:3])}: a constraint would never take effect there")
    if idle:
        rank_zero_warn(f"WeightConstraint leaves {', '.join(idle[:3])} alone until an optimizer trains it")


def _parameters(optimizer: Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _enforcing(constrained: list[Constrained]) -> Callable[[Optimizer, Any, Any], None]:
    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # Asked at each step: parameters may join an optimizer later.
        own = _parameters(optimizer)
        for one in constrained:
            if id(one.parameter) in own:
                one.enforce()

    return hook
