"""Weights that are normalized as a part of the model: the layer computes with N(weight)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from weight_norms import Selection, check_kind, normalize


class WeightNormalization(Callback):
    """Layers compute with N(weight) instead of their weight; gradients flow through N (article 4, pre-processing).

    The weight itself stays the parameter that the optimizer trains. N is set up before optimizers are made and
    checkpoints are loaded, in every stage, so a Trainer that resumes, validates, tests or predicts from a checkpoint
    needs the same callback. Without a Trainer: `weight_norms.normalize`, then `load_state_dict`. For export:
    `weight_norms.bake_in`. Layers have to exist after the module's `__init__`.

    A layer is normalized if it satisfies each of `classes`, `names` and `predicate` that is given; without any, the
    dense and convolution layers are. Several of these callbacks can be in one Trainer: what they do to one weight is
    done in their order.

    Args:
        kind: "spectral" (torch's power iteration, which goes on from step to step), "spectral_article" (the article's
            own, without state), "l2" (each output unit has norm 1), "max_norm" (at most `max_norm`), "centered" (mean
            0 and variance 1 per output unit); or a module of your own that maps a weight to one of the same shape.
        kind_args: arguments of the kind: `n_power_iterations` of "spectral" (1) and "spectral_article" (5), `max_norm`
            of "max_norm" (2), `eps` of "centered" (1e-10).
        classes: names of the layers' classes: [Conv2d, LSTM].
        names: patterns of the layers' qualified names: ["discriminator.*"].
        predicate: a function (qualified name, layer) -> bool, or its dotted path.
        parameter: pattern of the parameters' names in a layer: "weight"; "weight_*" are all weights of an LSTM.

    Raises:
        ValueError: an unknown kind or argument, or (when the Trainer starts) layers that are not there, a weight that
            the kind cannot take, a strategy that splits weights.
    """

    def __init__(
        self,
        kind: str | nn.Module = "spectral",
        kind_args: dict[str, Any] | None = None,
        classes: list[str] | None = None,
        names: list[str] | None = None,
        predicate: str | Callable[[str, nn.Module], bool] | None = None,
        parameter: str = "weight",
    ) -> None:
        check_kind(kind, kind_args)
        self.kind = kind
        self.kind_args = kind_args
        self.selection = Selection(classes or (), names or (), predicate, parameter)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Normalize, if this is not done yet."""
        refuse_split_weights(trainer, self)
        if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
            rank_zero_warn(
                "WeightNormalization: processes that Lightning spawns or forks don't hand normalized weights back;"
                " the module of the main process stays untrained: load a checkpoint into it, or use strategy ddp"
            )
        self.prepare_module(pl_module)

    def prepare_module(self, pl_module: nn.Module) -> None:
        """Give the module the names of parameters that a checkpoint of it has (see `callbacks.protocols`)."""
        normalize(pl_module, self.kind, self.kind_args, self.selection)


def refuse_split_weights(trainer: pl.Trainer, asked_by: Callback) -> None:
    """
    Raises:
        ValueError: a strategy under which a process holds parts of weights, whose norms are not the weights'.
    """
    if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
        name = type(trainer.strategy).__name__
        raise ValueError(f"{type(asked_by).__name__} needs whole weights, {name} splits them: set trainer.strategy=ddp")
