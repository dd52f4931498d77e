"""Normalize weights as a part of the model, and bake the normalized values in."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from weight_norms.arguments import settings_of
from weight_norms.norms import KINDS, SpectralNorm
from weight_norms.recurrent import compute_at_use, compute_beforehand
from weight_norms.selection import Selection, Weight


def normalize(
    module: nn.Module,
    kind: str | nn.Module = "spectral",
    kind_args: dict[str, Any] | None = None,
    selection: Selection | None = None,
) -> list[Weight]:
    """Let layers compute with N(weight) instead of the weight, in place; gradients flow through N (article 4).

    The weight itself stays the parameter that optimizers train: ``layer.parametrizations.weight.original`` in the
    state dict. A weight that is normalized in the same way already is left alone; another kind comes on top of the
    earlier ones.

    Args:
        module: any module.
        kind: a key of ``KINDS``, or a module that maps a weight to one of its shape (each weight gets a copy).
        kind_args: arguments of the kind, such as {"n_power_iterations": 5}.
        selection: which weights; the kernels of all layers by default.

    Returns:
        The chosen weights.

    Raises:
        ValueError: nothing is chosen; an unknown kind or argument; a weight that the kind cannot take, or that it
            normalizes already with other arguments. The message names it.
    """
    settings = check_kind(kind, kind_args)
    weights = (selection or Selection()).of(module)
    for weight in weights:
        try:
            _normalize(weight, kind, settings)
        except ValueError as error:
            raise ValueError(f"{weight}: {error}") from error
    return weights


def check_kind(kind: str | nn.Module, kind_args: dict[str, Any] | None = None) -> dict[str, Any]:
    """All settings of a kind, by name.

    Raises:
        ValueError: an unknown kind, or an argument that it doesn't have or take.
    """
    if isinstance(kind, str):
        return settings_of(KINDS, kind, kind_args)
    if kind_args:
        raise ValueError(f"kind_args={kind_args} are for a kind by name; {type(kind).__name__} is made already")
    return {name: value for name, value in vars(kind).items() if name[0] != "_" and name != "training"}


def _normalize(weight: Weight, kind: str | nn.Module, settings: dict[str, Any]) -> None:
    layer, name = weight.layer, weight.name
    for earlier in _normalizations(weight):
        if type(earlier) is (KINDS[kind] if isinstance(kind, str) else type(kind)):
            if all(repr(getattr(earlier, key, value)) == repr(value) for key, value in settings.items()):
                return
            raise ValueError(f"{type(earlier).__name__} normalizes it already, with other arguments than {settings}")
    if isinstance(layer, nn.RNNBase):
        compute_at_use(layer)
    if isinstance(kind, str):
        normalization = KINDS[kind](getattr(layer, name).detach(), weight.dim, **settings)
    else:
        normalization = copy.deepcopy(kind)
    parametrize.register_parametrization(layer, name, normalization)


def _normalizations(weight: Weight) -> list[nn.Module]:
    if not parametrize.is_parametrized(weight.layer, weight.name):
        return []
    parametrizations: Any = weight.layer.parametrizations
    return list(parametrizations[weight.name])


@torch.no_grad()
def settle(module: nn.Module) -> nn.Module:
    """Make spectral norms exact, in place: the power iteration lags behind weights that still move fast.

    Changes what the module computes, by as much as it lagged; for use after training.

    Returns:
        ``module`` itself.
    """
    lists = [part for part in module.modules() if isinstance(part, parametrize.ParametrizationList)]
    for parts in lists:
        was_training, value = parts.training, [getattr(parts, name) for name in _originals(parts)]
        parts.eval()
        for part in parts:
            if isinstance(part, SpectralNorm):
                part.settle(*value)
            value = [part(*value)]
        parts.train(was_training)
    return module


def _originals(parts: parametrize.ParametrizationList) -> list[str]:
    return ["original"] if parts.is_tensor else [f"original{i}" for i in range(parts.ntensors)]


def bake_in(module: nn.Module) -> nn.Module:
    """Replace each computed weight by a plain parameter of its value in evaluation mode, in place.

    For export: outputs stay the same, and the state dict has plain names and loads where nothing is normalized.
    Takes out everything of `torch.nn.utils.parametrize`, also what was not put in here. Parameters are new ones:
    optimizers that were made before don't know them. A copy can be baked in without touching its original.

    Returns:
        ``module`` itself.
    """
    for layer in [part for part in module.modules() if parametrize.is_parametrized(part)]:
        # A deep copy shares the class that torch made for its original, and removing takes properties out of it.
        layer.__class__ = type(type(layer).__name__, type(layer).__bases__, dict(vars(type(layer))))
        parametrizations: Any = layer.parametrizations
        parametrizations.eval()
        for name, parts in list(parametrizations.items()):
            if parts.is_tensor and isinstance(parts.original, nn.Parameter):
                # Removing writes into the original, which may be another layer's weight too.
                parts.original = nn.Parameter(parts.original.detach().clone(), parts.original.requires_grad)
            parametrize.remove_parametrizations(layer, name)
        if isinstance(layer, nn.RNNBase):
            compute_beforehand(layer)
    return module
