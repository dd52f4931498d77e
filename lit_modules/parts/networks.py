"""Generators and discriminators: DCGAN-like ones for small images, and MLPs for points.

In the spirit of article 1's reference: 5x5 kernels with stride 2; the discriminator widens (w, 2w, 4w, ...)
with LeakyReLU, the generator mirrors it from a dense layer with batch norm and ReLU to tanh. The author's
networks are ``width=64, image_size=64, channels=3``. Shapes: B batch, L latent dimensions, C channels, S
image size, D dimensions.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from weight_norms import KERNELS, normalize

NORMALIZATIONS = ("batch", "none")


def halvings(image_size: int) -> tuple[int, int]:
    """(number of stride-2 layers, side of the smallest map): 28 gives (2, 7), 32 (3, 4), 64 (4, 4).

    Raises:
        ValueError: a size that is not a multiple of 4 of at least 8.
    """
    if image_size < 8 or image_size % 4:
        near = max(8, 4 * round(image_size / 4))
        raise ValueError(f"image_size={image_size} must be a multiple of 4, at least 8; the nearest is {near}")
    count, side = 0, image_size
    while side % 2 == 0 and side >= 8:
        count, side = count + 1, side // 2
    return count, side


class ConvGenerator(nn.Module):
    """Latent rows to images: (B, L) to (B, C, S, S) in [-1, 1].

    Args:
        image_size: side S in pixels, a multiple of 4.
        channels: C.
        latent_dim: L.
        width: channels of the last hidden map; each smaller map has twice as many.
        normalization: "batch" or "none".

    Raises:
        ValueError: unsuitable image_size, unknown normalization.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 24,
        normalization: str = "batch",
    ) -> None:
        super().__init__()
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"unknown normalization {normalization!r}; known: {', '.join(NORMALIZATIONS)}")
        count, side = halvings(image_size)
        self.latent_dim = latent_dim
        self.output_shape = (channels, image_size, image_size)
        widths = [width * 2**i for i in reversed(range(count))]
        # A batch norm after it makes a bias idle.
        bias = normalization == "none"
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            dense=nn.Linear(latent_dim, widths[0] * side**2, bias=bias),
            unflatten=nn.Unflatten(1, (widths[0], side, side)),
        )
        for i, w in enumerate(widths):
            if normalization == "batch":
                layers[f"norm{i}"] = nn.BatchNorm2d(w)
            layers[f"relu{i}"] = nn.ReLU()
            last = i == count - 1
            out = channels if last else widths[i + 1]
            layers[f"up{i}"] = nn.ConvTranspose2d(w, out, 5, 2, padding=2, output_padding=1, bias=bias or last)
        layers["tanh"] = nn.Tanh()
        self.layers = nn.Sequential(layers)
        if normalization == "batch":
            # DCGAN's N(0, 0.02). Without a normalization the signal would die out on its way.
            self.apply(_dcgan_init)

    def forward(self, z: Tensor) -> Tensor:
        """(B, L) to (B, C, S, S)."""
        return self.layers(z)


def _dcgan_init(module: nn.Module) -> None:
    if isinstance(module, KERNELS):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ConvDiscriminator(nn.Module):
    """Images to raw scores: (B, C, S, S) to (B,), no sigmoid, each sample on its own (no batch norm).

    Args:
        image_size: side S in pixels, a multiple of 4.
        channels: C.
        width: channels of the first map; each smaller map has twice as many.

    Raises:
        ValueError: unsuitable image_size.
    """

    def __init__(self, image_size: int = 28, channels: int = 1, width: int = 24) -> None:
        super().__init__()
        count, side = halvings(image_size)
        self.input_shape = (channels, image_size, image_size)
        widths = [channels] + [width * 2**i for i in range(count)]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(count):
            layers[f"down{i}"] = nn.Conv2d(widths[i], widths[i + 1], 5, 2, padding=2)
            layers[f"relu{i}"] = nn.LeakyReLU(0.2)
        layers["flatten"] = nn.Flatten()
        layers["score"] = nn.Linear(widths[-1] * side**2, 1)
        self.layers = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) to (B,)."""
        return self.layers(x).squeeze(1)


def _mlp(sizes: list[int], activation: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), activation]
    return nn.Sequential(*layers[:-1])


class PointGenerator(nn.Module):
    """Latent rows to points: (B, L) to (B, D), an MLP of ``depth`` hidden ReLU layers of ``width``."""

    def __init__(self, dimensions: int = 2, latent_dim: int = 2, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.output_shape = (dimensions,)
        self.layers = _mlp([latent_dim, *[width] * depth, dimensions], nn.ReLU())

    def forward(self, z: Tensor) -> Tensor:
        """(B, L) to (B, D)."""
        return self.layers(z)


class PointDiscriminator(nn.Module):
    """Points to raw scores: (B, D) to (B,), an MLP of ``depth`` hidden LeakyReLU layers."""

    def __init__(self, dimensions: int = 2, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.input_shape = (dimensions,)
        self.layers = _mlp([dimensions, *[width] * depth, 1], nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B,)."""
        return self.layers(x).squeeze(1)


def apply_spectral_norm(module: nn.Module, n_power_iterations: int = 1) -> nn.Module:
    """Divide every kernel (dense, convolution, transposed convolution) by its largest singular value, in
    place: the kind "spectral" of `weight_norms`.

    The value is estimated by ``n_power_iterations`` power iterations at each use in training mode (the
    article's author takes 5); a convolution's kernel counts as a matrix (out, in * h * w), as in Miyato et
    al. 2018.

    Returns:
        ``module`` itself.

    Raises:
        ValueError: fewer than 1 iteration, or no kernel to normalize.
    """
    if n_power_iterations < 1:
        raise ValueError(f"power_iterations={n_power_iterations} must be at least 1")
    normalize(module, "spectral", {"n_power_iterations": n_power_iterations})
    return module


@contextmanager
def cached_weights(module: nn.Module, *, iterate: bool = True) -> Iterator[None]:
    """Compute the module's normalized weights once, in float32, for all forward passes inside.

    Without it, the spectral norm iterates at each pass, so that two passes of one step see different weights,
    and under autocast a parametrization of torch's or of your own computes in half precision.

    Args:
        module: whose weights.
        iterate: False for the same weights once more, after an earlier use in the same step: the spectral norm
            takes the singular vectors that it has.
    """
    parts = [part for part in module.modules() if parametrize.is_parametrized(part)]
    with parametrize.cached():
        for part in parts:
            parametrizations = cast(nn.ModuleDict, part.parametrizations)
            was_training = parametrizations.training
            parametrizations.train(was_training and iterate)
            with torch.autocast(next(part.parameters()).device.type, enabled=False):
                for name in parametrizations:
                    getattr(part, name)
            parametrizations.train(was_training)
        yield


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Forward passes inside give gradients to their inputs only, not to the module's parameters."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
