"""Gradient penalties of the discriminator: WGAN-GP, R1 and R2, by strength, alone or together.

Squared gradients are *summed* over the sample's entries (pixels, channels) and averaged over the batch.
Everything runs in float32 outside autocast, on detached inputs, through the discriminator's uncompiled
``forward``: a penalty differentiates a gradient, and torch.compile's autograd does not support that second
backward pass.

Sources: Gulrajani et al. 2017 (GP), Mescheder et al. 2018 (R1, R2), Karras et al. 2020 (lazy penalties),
Huang et al. 2024 (R3GAN: R1 + R2 with the loss rsgan).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Scorer = Callable[[Tensor], Tensor]


def squared_gradient_norms(discriminator: Scorer, samples: Tensor) -> Tensor:
    """||dT/dx||^2 of each sample, differentiable: (B, ...) to (B,)."""
    device = samples.device.type
    if torch.is_autocast_enabled(device):
        samples = samples.float()
    with torch.autocast(device, enabled=False):
        samples = samples.detach().requires_grad_()
        # Summed scores: each sample's score depends on that sample only, so the gradients don't mix.
        (gradient,) = torch.autograd.grad(discriminator(samples).sum(), samples, create_graph=True)
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        return gradient.flatten(1).square().sum(dim=1)


def zero_centered_penalty(discriminator: Scorer, samples: Tensor) -> Tensor:
    """E ||dT/dx||^2 / 2 (scalar): R1 on real samples, R2 on fakes; its customary strength is called gamma."""
    return squared_gradient_norms(discriminator, samples).mean() / 2


def gradient_penalty(discriminator: Scorer, real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """WGAN-GP, two-sided: E (||dT/dx|| - 1)^2 at x = epsilon x_r + (1 - epsilon) x_f (scalar).

    Args:
        discriminator: from samples (B, ...) to scores.
        real: (B, ...).
        fake: the same shape.
        epsilon: (B,), uniform in [0, 1].
    """
    weight = epsilon.reshape(-1, *[1] * (real.dim() - 1)).to(real.dtype)
    mixed = weight * real.detach() + (1 - weight) * fake.detach()
    # The root's slope is infinite at 0, where a flat discriminator sits; 1e-12 moves a norm of 1 by 5e-13
    # only.
    norms = (squared_gradient_norms(discriminator, mixed) + 1e-12).sqrt()
    return (norms - 1).square().mean()


@dataclass(frozen=True)
class Penalties:
    """The penalties of one run, with their strengths; 0 leaves one out.

    Attributes:
        gp: strength lambda of WGAN-GP (10 in the paper).
        r1: strength gamma of R1.
        r2: strength gamma of R2.
        interval: apply them at every ``interval``-th update only, ``interval`` times as strong ("lazy").

    Raises:
        ValueError: a negative strength, or an interval below 1.
    """

    gp: float = 0.0
    r1: float = 0.0
    r2: float = 0.0
    interval: int = 1

    def __post_init__(self) -> None:
        for name in ("gp", "r1", "r2"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}_weight={getattr(self, name)} must not be negative")
        if self.interval < 1:
            raise ValueError(f"penalty_interval={self.interval} must be at least 1")

    def due(self, update: int) -> bool:
        """Whether the discriminator's update number ``update`` (from 0) carries a penalty."""
        return (self.gp > 0 or self.r1 > 0 or self.r2 > 0) and update % self.interval == 0

    def __call__(self, discriminator: Scorer, real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
        """The weighted sum (scalar, no lazy factor) on real and fake samples (B, ...); epsilon (B,)."""
        total = real.new_zeros((), dtype=torch.promote_types(real.dtype, torch.float32))
        if self.gp:
            total = total + self.gp * gradient_penalty(discriminator, real, fake, epsilon)
        if self.r1:
            total = total + self.r1 * zero_centered_penalty(discriminator, real)
        if self.r2:
            total = total + self.r2 * zero_centered_penalty(discriminator, fake)
        return total
