"""Encoders and decoders of images: convolutional ones in DCGAN's manner, and MLPs.

Shapes: B batch, C channels, S image size, L numbers that the encoder gives or the decoder takes. The decoder that
belongs to :class:`ConvEncoder` is ``networks.ConvGenerator``.
"""

from collections import OrderedDict
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from lit_modules.parts.adversarial import check_name
from lit_modules.parts.networks import ConvGenerator, halvings

NETWORKS = ("convolutional", "dense")
HIDDEN = (512, 256)


class ConvEncoder(nn.Module):
    """Images to numbers, (B, C, S, S) to (B, L): 5x5 kernels with stride 2, batch norm, ReLU, a dense layer.

    Args:
        image_size: side S in pixels, a multiple of 4.
        channels: C.
        outputs: L.
        width: channels of the first map; each smaller map has twice as many.

    Raises:
        ValueError: unsuitable image_size.
    """

    def __init__(self, image_size: int = 28, channels: int = 1, outputs: int = 16, width: int = 24) -> None:
        super().__init__()
        count, side = halvings(image_size)
        self.input_shape = (channels, image_size, image_size)
        widths = [channels] + [width * 2**i for i in range(count)]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (narrow, wide) in enumerate(pairwise(widths)):
            # A batch norm after it makes a bias idle.
            layers[f"down{i}"] = nn.Conv2d(narrow, wide, 5, 2, padding=2, bias=False)
            layers[f"norm{i}"] = nn.BatchNorm2d(wide)
            layers[f"relu{i}"] = nn.ReLU()
        layers["flatten"] = nn.Flatten()
        layers["code"] = nn.Linear(widths[-1] * side**2, outputs)
        self.layers = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) to (B, L)."""
        return self.layers(x)


class DenseEncoder(nn.Module):
    """Images to numbers, (B, C, S, S) to (B, L): an MLP with hidden layers of 512 and 256 and ReLU."""

    def __init__(self, image_size: int = 28, channels: int = 1, outputs: int = 16) -> None:
        super().__init__()
        self.input_shape = (channels, image_size, image_size)
        self.layers = nn.Sequential(nn.Flatten(), *_mlp([prod(self.input_shape), *HIDDEN, outputs]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) to (B, L)."""
        return self.layers(x)


class DenseDecoder(nn.Module):
    """Codes to images in [-1, 1], (B, L) to (B, C, S, S): DenseEncoder backward, and tanh."""

    def __init__(self, image_size: int = 28, channels: int = 1, latent_dim: int = 16) -> None:
        super().__init__()
        self.output_shape = (channels, image_size, image_size)
        layers = _mlp([latent_dim, *reversed(HIDDEN), prod(self.output_shape)])
        self.layers = nn.Sequential(*layers, nn.Tanh(), nn.Unflatten(1, self.output_shape))

    def forward(self, z: Tensor) -> Tensor:
        """(B, L) to (B, C, S, S)."""
        return self.layers(z)


def _mlp(sizes: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return layers[:-1]


def default_coders(
    network: str, *, image_size: int, channels: int, latent_dim: int, outputs: int, width: int
) -> tuple[nn.Module, nn.Module]:
    """(encoder, decoder) of the kind ``network``, "convolutional" or "dense".

    Raises:
        ValueError: unknown kind, or an image_size that the convolutions don't divide.
    """
    check_name("network", network, NETWORKS)
    if network == "dense":
        return DenseEncoder(image_size, channels, outputs), DenseDecoder(image_size, channels, latent_dim)
    return (
        ConvEncoder(image_size, channels, outputs, width),
        ConvGenerator(image_size, channels, latent_dim, width),
    )
