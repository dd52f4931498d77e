"""What a weight can be normalized by: modules that map a weight (any shape) to a weight of the same shape.

A weight counts as a matrix W of one row w_i an output unit: ``dim`` is moved to the front and the rest flattened, as
in Miyato et al. 2018. A vector, such as batch norm's gamma, counts as a diagonal matrix: each entry is a unit.
Half-precision weights are measured in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations


def rows(weight: Tensor, dim: int) -> Tensor:
    """The weight as a matrix (outputs, inputs), in at least float32; a vector (n,) as one entry an output, (n, 1)."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return weight.to(wide).movedim(dim, 0).reshape(weight.shape[dim], -1)


def unit_norms(weight: Tensor, dim: int) -> Tensor:
    """The Euclidean norm of each output unit, in a shape that divides ``weight``: 1 but for ``dim``."""
    shape = [1] * weight.ndim
    shape[dim] = -1
    return torch.linalg.vector_norm(rows(weight, dim), dim=1).view(shape)


def spectral_norm(weight: Tensor, dim: int = 0) -> Tensor:
    """The largest singular value (a scalar), by SVD; of a vector the largest absolute value."""
    if weight.ndim == 1:
        return torch.linalg.vector_norm(rows(weight, 0), float("inf"))
    return torch.linalg.matrix_norm(rows(weight, dim), 2)


def or_one(divisor: Tensor) -> Tensor:
    """``divisor``, or 1 where it is 0: zeros stay zeros, and their gradients finite."""
    return torch.where(divisor == 0, torch.ones_like(divisor), divisor)


class SpectralNorm(parametrizations._SpectralNorm):
    """W / sigma(W), sigma the largest singular value: torch's power iteration, which goes on from step to step.

    Singular vectors are kept as buffers and refined at each use in training mode, no gradient flows through the
    iteration (Miyato et al. 2018). The spectral norm of a diagonal matrix is its largest entry, so a vector is divided
    by its largest absolute value, exactly. Never computed in half precision under autocast.

    Args:
        weight: the weight to be normalized, not all zeros.
        dim: its output dimension.
        n_power_iterations: at each use in training mode.
    """

    def __init__(self, weight: Tensor, dim: int, n_power_iterations: int = 1) -> None:
        _check_iterations(n_power_iterations)
        if not weight.any():
            raise ValueError("all zeros have no largest singular vector: initialize it otherwise")
        super().__init__(weight, n_power_iterations, dim)

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight."""
        if weight.ndim == 1:
            return (weight / or_one(spectral_norm(weight))).to(weight.dtype)
        with torch.autocast(weight.device.type, enabled=False):
            return super().forward(weight)

    @torch.no_grad()
    def settle(self, weight: Tensor) -> None:
        """Take the singular vectors of the SVD."""
        if weight.ndim > 1:
            u, _, v = torch.linalg.svd(rows(weight, self.dim), full_matrices=False)
            self._u.copy_(u[:, 0])
            self._v.copy_(v[0])


class ArticleSpectralNorm(nn.Module):
    """W / sigma(W) as article 4 computes it: without state, a few power iterations from a vector of ones at each use.

    v <- W u / |W u|, u <- W^T v / |W^T v|, and sigma = v^T W u; gradients flow through the iteration. After 5
    iterations sigma is some 6 % too small on random matrices. A vector (batch norm's gamma) counts as a matrix of one
    row, as in the article's code, so that it is divided by its Euclidean norm: too much by the factor |gamma| / max
    |gamma_i|. `SpectralNorm` is right in both respects.

    Args:
        weight: the weight to be normalized.
        dim: its output dimension.
        n_power_iterations: the article takes 5.
    """

    def __init__(self, weight: Tensor, dim: int, n_power_iterations: int = 5) -> None:
        _check_iterations(n_power_iterations)
        super().__init__()
        self.dim, self.n_power_iterations = dim, n_power_iterations

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = rows(weight, self.dim)
            if weight.ndim == 1:
                matrix = matrix.T
            u = torch.ones_like(matrix[0])
            for _ in range(self.n_power_iterations):
                v = functional.normalize(matrix @ u, dim=0)
                u = functional.normalize(matrix.T @ v, dim=0)
            return (weight / or_one(v @ matrix @ u)).to(weight.dtype)


class UnitNorm(nn.Module):
    """w_i / |w_i|: each output unit has Euclidean norm 1 (a unit of zeros stays so).

    Args:
        weight: the weight to be normalized.
        dim: its output dimension.
    """

    def __init__(self, weight: Tensor, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight."""
        return (weight / or_one(unit_norms(weight, self.dim))).to(weight.dtype)


class MaxNorm(nn.Module):
    """w_i min(1, c / |w_i|): each output unit has at most Euclidean norm c.

    Args:
        weight: the weight to be normalized.
        dim: its output dimension.
        max_norm: c, in the weight's unit; Keras's default is 2.
    """

    def __init__(self, weight: Tensor, dim: int, max_norm: float = 2.0) -> None:
        check_positive("max_norm", max_norm)
        super().__init__()
        self.dim, self.max_norm = dim, max_norm

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight."""
        return (weight * (self.max_norm / unit_norms(weight, self.dim).clamp_min(self.max_norm))).to(weight.dtype)


class Centered(nn.Module):
    """(w_i - mean(w_i)) / std(w_i), weight standardization (Qiao et al. 2019): each output unit has mean 0 and
    variance 1 over its inputs.

    Args:
        weight: the weight to be normalized, not a vector.
        dim: its output dimension.
        eps: added to the variance.
    """

    def __init__(self, weight: Tensor, dim: int, eps: float = 1e-10) -> None:
        check_positive("eps", eps)
        if weight.numel() == weight.shape[dim]:
            raise ValueError("a unit of one entry has no variance: centered needs at least two")
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight."""
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        others = [i for i in range(weight.ndim) if i != self.dim]
        variance, mean = torch.var_mean(wide, others, correction=0, keepdim=True)
        return ((wide - mean) * torch.rsqrt(variance + self.eps)).to(weight.dtype)


KINDS: dict[str, Any] = {
    "spectral": SpectralNorm,
    "spectral_article": ArticleSpectralNorm,
    "l2": UnitNorm,
    "max_norm": MaxNorm,
    "centered": Centered,
}


def check_positive(name: str, value: float) -> None:
    """
    Raises:
        ValueError: ``value`` is not above 0, naming the argument.
    """
    if not value > 0:
        raise ValueError(f"{name}={value} must be positive")


def _check_iterations(n_power_iterations: int) -> None:
    if n_power_iterations < 1:
        raise ValueError(f"n_power_iterations={n_power_iterations} must be at least 1")
