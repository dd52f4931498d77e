"""How far a set of codes is from a standard normal one."""

from __future__ import annotations

import torch
from torch import Tensor


def sliced_ks(codes: Tensor, directions: int = 128) -> Tensor:
    """Sliced Kolmogorov-Smirnov distance of codes (n, d) to N(0, I): a scalar in [0, 1], float64; 0 is perfect.

    A set is standard normal exactly if its projection on every direction is. So the codes are projected on
    random unit directions, and the mean is taken of sup |F(t) - Phi(t)|, F being the empirical distribution
    function of a projection and Phi the standard normal one. The directions depend on d and their number
    alone: every call takes the same ones, on all devices.

    A finite set is never perfect: n draws from N(0, I) give about 0.87 / sqrt(n).

    Args:
        codes: one code a row; NaN gives NaN.
        directions: number of directions.

    Raises:
        ValueError: `codes` is not of the shape (n, d) with n and d at least 1.
    """
    if codes.ndim != 2 or codes.numel() == 0:
        raise ValueError(f"sliced_ks takes codes (n, d) with n and d at least 1, got {tuple(codes.shape)}")
    n, d = codes.shape
    # Drawn on the CPU, since a GPU draws other numbers.
    axes = torch.randn(d, directions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = (axes / axes.norm(dim=0)).to(codes.device)
    normal = torch.special.ndtr((codes.double() @ axes).sort(dim=0).values)
    # F jumps at each point: the supremum is at one of its sides.
    below = torch.arange(n, device=codes.device, dtype=torch.float64).view(-1, 1) / n
    return torch.maximum(normal - below, below + 1 / n - normal).amax(dim=0).mean()
