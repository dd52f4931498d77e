"""Constraints that are put on a weight after an optimizer step: theta <- constraint(theta)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from weight_norms.arguments import settings_of
from weight_norms.norms import MaxNorm, UnitNorm, check_positive, spectral_norm
from weight_norms.selection import Selection, Weight


class MaxSpectralNorm(nn.Module):
    """W min(1, c / sigma(W)): a largest singular value of at most c, by SVD; for a vector the largest absolute value.

    Args:
        weight: the weight to be constrained.
        dim: its output dimension.
        max_norm: c.
    """

    def __init__(self, weight: Tensor, dim: int, max_norm: float = 1.0) -> None:
        check_positive("max_norm", max_norm)
        super().__init__()
        self.dim, self.max_norm = dim, max_norm

    def forward(self, weight: Tensor) -> Tensor:
        """The constrained weight."""
        sigma = spectral_norm(weight, self.dim)
        return (weight * (self.max_norm / sigma.clamp_min(self.max_norm))).to(weight.dtype)


class NonNegative(nn.Module):
    """max(w, 0), entry by entry.

    Args:
        weight: the weight to be constrained.
        dim: its output dimension.
    """

    def __init__(self, weight: Tensor, dim: int) -> None:
        super().__init__()

    def forward(self, weight: Tensor) -> Tensor:
        """The constrained weight."""
        return weight.clamp_min(0)


class Clip(nn.Module):
    """min(max(w, -c), c), entry by entry, as WGAN does (Arjovsky et al. 2017).

    Args:
        weight: the weight to be constrained.
        dim: its output dimension.
        limit: c; WGAN's is 0.01.
    """

    def __init__(self, weight: Tensor, dim: int, limit: float = 0.01) -> None:
        check_positive("limit", limit)
        super().__init__()
        self.limit = limit

    def forward(self, weight: Tensor) -> Tensor:
        """The constrained weight."""
        return weight.clamp(-self.limit, self.limit)


CONSTRAINTS: dict[str, Any] = {
    "max_norm": MaxNorm,
    "unit_norm": UnitNorm,
    "non_negative": NonNegative,
    "clip": Clip,
    "spectral": MaxSpectralNorm,
}


def check_constraint(kind: str, kind_args: dict[str, Any] | None = None) -> dict[str, Any]:
    """All settings of a constraint, by name.

    Raises:
        ValueError: an unknown kind, or an argument that it doesn't have or take.
    """
    return settings_of(CONSTRAINTS, kind, kind_args)


@dataclass(frozen=True)
class Constrained:
    """A weight and what it has to satisfy."""

    weight: Weight
    constraint: nn.Module

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter, as the layer has it now."""
        return getattr(self.weight.layer, self.weight.name)

    @torch.no_grad()
    def enforce(self) -> None:
        """Let the weight satisfy its constraint, in place."""
        self.parameter.copy_(self.constraint(self.parameter))


def constrain(
    module: nn.Module, kind: str, kind_args: dict[str, Any] | None = None, selection: Selection | None = None
) -> list[Constrained]:
    """The chosen weights with their constraint, not enforced yet.

    Args:
        module: any module.
        kind: a key of ``CONSTRAINTS``.
        kind_args: arguments of the kind, such as {"max_norm": 1.0}.
        selection: which weights; the kernels of all layers by default.

    Raises:
        ValueError: nothing is chosen, an unknown kind or argument, or a weight that is computed from others, which
            would not keep what is written into it. The message names it.
    """
    settings = check_constraint(kind, kind_args)
    weights = (selection or Selection()).of(module)
    for weight in weights:
        if parametrize.is_parametrized(weight.layer, weight.name):
            raise ValueError(f"{weight} is computed by {_last(weight)}: what a constraint writes there would not last")
    return [Constrained(w, CONSTRAINTS[kind](getattr(w.layer, w.name), w.dim, **settings)) for w in weights]


def _last(weight: Weight) -> str:
    parametrizations: Any = weight.layer.parametrizations
    return type(parametrizations[weight.name][-1]).__name__
